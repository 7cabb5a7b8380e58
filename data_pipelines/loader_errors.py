"""What Grain says when a loader fails, as one sentence with what to do."""

from __future__ import annotations

import errno
import re
import signal

from data_pipelines.errors import DataError
from data_pipelines.system_errors import ADVICE, number_of, system_error

ENDED = re.compile(r"terminated unexpectedly with exit code (-?\d+)")
IN_PROCESS = "set data.workers=0 (the images are then read in threads of this process)"
SHARED = f"batches in /dev/shm: give it more room (Docker: --shm-size=8g), or {IN_PROCESS}"
_ENDS = {  # by names: Windows has none of these signals
    "SIGKILL": f"was killed, most often because memory ran out: use fewer data.workers or data.threads, or {IN_PROCESS}",
    "SIGBUS": f"found no room in shared memory; workers hand over {SHARED}",
}
ENDS = {getattr(signal, name): how for name, how in _ENDS.items() if hasattr(signal, name)}


def explained(error: OSError | RuntimeError) -> DataError | None:
    """The DataError for worker processes that end, cannot be started or cannot hand over their batches; None for another error."""
    if isinstance(error, OSError):
        return _of_start(error)
    ended = ENDED.search(str(error))
    if not ended:
        return None
    how = ENDS.get(-int(ended[1])) or f"ended with the exit code {ended[1]}; to see why, {IN_PROCESS}"
    return DataError(f"A loader worker {how}.")


def _of_start(error: OSError) -> DataError:
    number = number_of(error)
    if number in (errno.EMFILE, errno.ENFILE):
        what = f"{ADVICE[number]}, or {IN_PROCESS}"
    elif number in (errno.EAGAIN, errno.ENOMEM):
        what = f"this system allows no more processes or memory: use fewer data.workers, or {IN_PROCESS}"
    else:
        what = f"they hand over {SHARED}"
    return DataError(f"Loader workers cannot work here ({system_error(error) or error.strerror or error}); {what}.")

"""Errors of the system (a file server that fails, a full disk, no rights, no descriptors) told from content that is wrong."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# These say that something is not there or has another form, which is a matter of content; every other number is the system's.
CONTENT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL}
# How libraries that hand on texts instead of numbers (TensorStore under Orbax) write them: "[OS error 5: EIO Input/output error]".
NUMBER = re.compile(r"OS error (\d+)|\[Errno (\d+)\]")
STATUS = {"RESOURCE_EXHAUSTED": "no space or no file descriptors left", "PERMISSION_DENIED": "permission denied",
          "UNAVAILABLE": "the storage does not answer", "DEADLINE_EXCEEDED": "the storage does not answer in time"}  # fmt: skip
_FULL, _FAILED, _RIGHT = "free some space there", "check the disk or the file server", "give this user the right to it"
ADVICE = {
    errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EFBIG: "the file is larger than this system or `ulimit -f` allows",
    errno.EIO: _FAILED, errno.ESTALE: _FAILED, errno.EMFILE: "allow more open files with `ulimit -n 4096`",
    errno.ENFILE: "close other programs", errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOMEM: "close other programs, or take a smaller batch",
    errno.EROFS: "make it writable", errno.EACCES: _RIGHT, errno.EPERM: _RIGHT,
}  # fmt: skip
OF_A_PLACE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}  # another place may do as well


def system_error(error: BaseException) -> str | None:
    """What the system said, "Input/output error", where an exception (or one behind it) is an error of the system; otherwise None."""
    for one in _chain(error):
        if isinstance(one, MemoryError):
            return "out of memory"
        number = number_of(one)
        if number is not None and number not in CONTENT:
            return os.strerror(number)
        status = next((words for name, words in STATUS.items() if str(one).startswith(name)), None)
        if status and number is None:
            return status
    return None


def number_of(error: BaseException) -> int | None:
    """The errno of an exception, also of one that only writes it into its text."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = NUMBER.search(str(error))
    return int(found[1] or found[2]) if found else None


def advice(error: BaseException) -> str:
    """What a user can do about an error of the system."""
    numbers = [number_of(one) for one in _chain(error)]
    return next((ADVICE[number] for number in numbers if number in ADVICE), _FAILED)


def unreadable(folder: Path) -> OSError | None:
    """The first error of the system on reading every file below a folder, or None when all can be read to their ends."""
    def note(error: OSError) -> None:
        raise error

    try:
        for where, _, names in os.walk(folder, onerror=note):
            for name in names:
                with open(os.path.join(where, name), "rb") as file:
                    while file.read(2**24):
                        pass
    except OSError as error:
        return None if error.errno in CONTENT else error
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception, those it holds, and those it came from."""
    seen: set[int] = set()
    open_ones = [error]
    while open_ones:
        one = open_ones.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        open_ones += [*getattr(one, "exceptions", ()), one.__cause__, one.__context__]


def patiently(action: Callable[[], T], pauses: tuple[float, ...], sleep: Callable[[float], None]) -> T:
    """What an action returns; after an error of the system again after each of the pauses (seconds). The last error is raised."""
    for pause in (*pauses, None):
        try:
            return action()
        except Exception as error:
            if pause is None or system_error(error) is None:
                raise
            sleep(pause)
    raise AssertionError("the last attempt returns or raises")

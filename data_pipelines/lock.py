"""One process at a time: a lock on a file, held by the kernel, so that it ends with the process however that ends."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows: there two processes in one folder are not kept apart
    fcntl = None

# What flock answers where a file system cannot lock, such as a mounted bucket; work goes on without the lock there.
UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}


class Taken(Exception):
    """Another process holds the lock."""


@contextlib.contextmanager
def locked(path: str | os.PathLike, *, wait: bool = False) -> Iterator[IO[str]]:
    """Hold the lock of the file `path`, which is made where it is missing, while the block runs; yields the open file.

    Args: wait: until the other process is done. Raises: `Taken` if it is held and `wait` is false; OSError if the file cannot be opened.
    """
    with Path(path).open("a") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise Taken(str(path)) from None
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
        yield file

"""Files that appear whole or not at all: the one way in which this project replaces a file."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

MARK = ".partial"  # in the names of files in the making; what a killed process left under such a name may be removed


def partial_name(path: Path) -> Path:
    """Where a file is written before it is whole: hidden, beside it, with its suffix, and short even where its own name is as long
    as file systems allow."""
    return path.with_name(f".{zlib.crc32(os.fsencode(path.name)):08x}.{os.getpid()}{MARK}{path.suffix}")


@contextlib.contextmanager
def atomic(path: str | os.PathLike, mode: str = "wb", *, sync: bool = True) -> Iterator[IO]:
    """`with atomic(path) as file`: the file stands under its name when the block ends without an error; otherwise the old one stays.

    Args: path: where it shall stand; missing folders are made. mode: "wb", or "w" for UTF-8 text. sync: wait until the content
    is on the disk before the name is given, so that a power cut leaves the old file or the new one.
    Raises: OSError with the path as its `filename`, where something cannot be written. Readers never see a part of a file.
    """
    path = Path(path)
    partial = partial_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        if error.filename in (None, str(partial)):  # write and fsync name no file; the name in the making says nothing to a user
            error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write_atomically(path: str | os.PathLike, data: bytes | str, *, sync: bool = True) -> None:
    """The whole file or none of it; a str is written as UTF-8. Raises OSError that names the path, see `atomic`."""
    with atomic(path, sync=sync) as file:
        file.write(data.encode() if isinstance(data, str) else data)

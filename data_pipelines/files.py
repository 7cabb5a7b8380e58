"""Files below a folder, read by relative name, and what is safe to do with their names and contents."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from data_pipelines.errors import DataError

MAX_BYTES = 2 << 30  # of one encoded picture: the largest that is read takes 1 GiB, uncompressed with 16 bits a channel
_MAX_VISITS = 16  # in which one folder is reached by links
# Without waiting for a named pipe; not every system has every flag.
_READ = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
_SCRAPS = ("__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information")
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class Files(Protocol):
    """Named bytes below one place; safe in threads, picklable, handles reopen in worker processes."""

    where: str

    def names(self) -> list[str]: ...
    def read(self, name: str) -> bytes: ...
    def size(self, name: str) -> int: ...
    def path(self, name: str) -> str: ...
    def real(self, name: str) -> str: ...
    def state(self, name: str) -> str: ...


def shown(name: str) -> str:
    """A file name that can always be printed and stored: bytes that are not UTF-8 and characters that steer a terminal or turn
    the direction of writing become \\xNN or \\uNNNN."""
    if name.isprintable():
        return name
    bytes_of = {chr(0xDC00 + byte): f"\\x{byte:02x}" for byte in range(128, 256)}  # how Python keeps bytes that are not UTF-8
    steering = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join(bytes_of.get(c) or (c if unicodedata.category(c) not in steering else ascii(c)[1:-1]) for c in name)


def wanted(name: str) -> bool:
    """Whether no part of a path is hidden or one of the scraps that systems leave behind."""
    return not any(part.startswith(".") or part in _SCRAPS for part in name.split("/"))


class NothingThere(DataError):
    """A place holds no images of the split that was asked for."""


def read_file(path: str | os.PathLike) -> bytes:
    """The content of a file; a DataError that names it for what cannot be read, is larger than MAX_BYTES or is no file.

    A named pipe or a device is never waited for.
    """
    where = shown(os.fspath(path))
    try:
        _check_regular(os.stat(path), where)
        with open(os.open(path, _READ), "rb") as file:
            _check_regular(os.fstat(file.fileno()), where)  # it may have been replaced since
            return file.read()
    except FileNotFoundError:
        raise DataError(f"{where} has vanished since the data set was opened; restore it or open it again.") from None
    except OSError as error:
        raise DataError(f"{where} cannot be read ({error.strerror}); check the disk and the permissions.") from None


def _check_regular(found: os.stat_result, where: str) -> None:
    for is_kind, what in _KINDS:
        if is_kind(found.st_mode):
            raise DataError(f"{where} is {what}, not a file; remove it from the data set.")
    if found.st_size > MAX_BYTES:
        raise DataError(f"{where} has {found.st_size / 2**30:.1f} GiB; at most {MAX_BYTES >> 30} GiB of a file are read.")


class Folder:
    """Files below a folder; symbolic links are followed, hidden files and what systems leave behind (`__MACOSX`) are left out."""

    def __init__(self, root: str | os.PathLike):
        self.where = str(root)

    def names(self) -> list[str]:
        """Sorted relative names with "/" between the parts."""
        found: list[str] = []
        ways: Counter[str] = Counter()
        waiting = [("", (os.path.realpath(self.where),))]
        while waiting:
            prefix, above = waiting.pop()
            ways[above[-1]] += 1
            if ways[above[-1]] > _MAX_VISITS:
                raise DataError(f"Links below {shown(self.where)} lead to {shown(above[-1])} in a loop; remove them.")
            for entry in self._entries(prefix):
                link = entry.is_symlink()
                if not (os.path.isdir(entry.path) if link else entry.is_dir()):
                    found.append(prefix + entry.name)
                    continue
                real = os.path.realpath(entry.path) if link else f"{above[-1]}/{entry.name}"
                if real not in above:  # a link back to a folder above would never end
                    waiting.append((f"{prefix}{entry.name}/", (*above, real)))
        return sorted(found)

    def _entries(self, prefix: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(os.path.join(self.where, prefix)) as entries:
                yield from (entry for entry in entries if wanted(entry.name))
        except OSError as error:
            where = shown(os.path.join(self.where, prefix))
            raise DataError(f"{where} cannot be listed ({error.strerror}); check the disk and the permissions.") from None

    def path(self, name: str) -> str:
        """The path of a file."""
        return os.path.join(self.where, name)

    def real(self, name: str) -> str:
        """What a file is once links are followed; equal for two names of one file."""
        return os.path.realpath(self.path(name))

    def read(self, name: str) -> bytes:
        """The content of a file."""
        return read_file(self.path(name))

    def size(self, name: str) -> int:
        """Bytes of a file."""
        try:
            return os.stat(self.path(name)).st_size
        except OSError as error:
            where = shown(self.path(name))
            raise DataError(f"{where} cannot be read ({error.strerror}); check the link or the disk.") from None

    def state(self, name: str) -> str:
        """What changes when a file is rewritten in place, even by as many bytes: its time of last change."""
        try:
            return str(os.stat(self.path(name)).st_mtime_ns)
        except OSError:
            return "gone"

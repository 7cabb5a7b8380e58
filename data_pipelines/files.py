"""Where files lie: a folder, a .zip, or a folder of .zip parts, read by relative name without unpacking."""

from __future__ import annotations

import os
import struct
import threading
import weakref
import zipfile
import zlib
from pathlib import Path
from typing import Protocol

from data_pipelines.errors import DataError


class Files(Protocol):
    """Named bytes below one place; safe in threads, picklable, handles reopen in worker processes."""

    where: str

    def names(self) -> list[str]: ...
    def read(self, name: str) -> bytes: ...
    def size(self, name: str) -> int: ...
    def path(self, name: str) -> str: ...
    def state(self, name: str) -> str: ...


def shown(name: str) -> str:
    """A file name that can always be printed and stored: bytes that are not UTF-8 become \\xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _wanted(name: str) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


class NothingThere(DataError):
    """A place holds no images of the split that was asked for."""


class Folder:
    """Files below a folder; symbolic links are followed, hidden files and `__MACOSX` are left out."""

    def __init__(self, root: str | os.PathLike):
        self.where = str(root)

    def names(self) -> list[str]:
        """Sorted relative names with "/" between the parts."""
        found, seen = [], set()
        for folder, below, files in os.walk(self.where, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:  # a link back to a folder above would never end
                below.clear()
                continue
            seen.add(real)
            below[:] = sorted(name for name in below if _wanted(name))
            prefix = os.path.relpath(folder, self.where).replace(os.sep, "/")
            found += [name if prefix == "." else f"{prefix}/{name}" for name in files if _wanted(name)]
        return sorted(found)

    def path(self, name: str) -> str:
        return os.path.join(self.where, name)

    def read(self, name: str) -> bytes:
        try:
            with open(self.path(name), "rb") as file:
                return file.read()
        except FileNotFoundError:
            raise DataError(
                f"{shown(self.path(name))} has vanished since the data set was opened; restore it or open anew."
            ) from None
        except OSError as error:
            raise DataError(
                f"{shown(self.path(name))} cannot be read ({error.strerror}); check the disk and the permissions."
            ) from None

    def size(self, name: str) -> int:
        try:
            return os.stat(self.path(name)).st_size
        except OSError as error:
            raise DataError(
                f"{shown(self.path(name))} cannot be read ({error.strerror}); check the link or the disk."
            ) from None

    def state(self, name: str) -> str:
        """What changes when a file is rewritten in place, even by as many bytes: its time of last change."""
        try:
            return str(os.stat(self.path(name)).st_mtime_ns)
        except OSError:
            return "gone"


class Zip:
    """Files inside one .zip, read at their place in it: no lock, no shared position, one open file a process."""

    def __init__(self, path: str | os.PathLike):
        self.where = str(path)
        try:
            with zipfile.ZipFile(self.where) as archive:
                kept = [info for info in archive.infolist() if not info.is_dir() and _wanted(info.filename)]
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{self.where} is not a whole .zip ({error}); download it again.") from None
        self._check(kept)
        self._entries = {i.filename: (i.header_offset, i.compress_size, i.file_size, i.compress_type, i.CRC) for i in kept}
        self._opening, self._descriptor = threading.Lock(), None

    def _check(self, entries: list[zipfile.ZipInfo]) -> None:
        for info in entries:
            if info.flag_bits & 1:
                raise DataError(f"{self.where} is locked by a password; unpack it and point at the folder.")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DataError(f"{self.where} is packed by a rare method; unpack it and point at the folder.")

    def __getstate__(self):
        return {"where": self.where, "_entries": self._entries}

    def __setstate__(self, state):
        self.__dict__.update(state, _opening=threading.Lock(), _descriptor=None)

    def names(self) -> list[str]:
        return sorted(self._entries)

    def path(self, name: str) -> str:
        return f"{self.where}/{name}"

    def size(self, name: str) -> int:
        return self._entries[name][2]

    def state(self, name: str) -> str:
        """The checksum that the .zip holds."""
        return str(self._entries[name][4])

    def read(self, name: str) -> bytes:
        offset, packed_size, size, method, checksum = self._entries[name]
        try:
            header = self._at(offset, 30)
            start = offset + 30 + sum(struct.unpack("<HH", header[26:30]))  # the file's name and extra fields come first
            data = self._at(start, packed_size)
            if method == zipfile.ZIP_DEFLATED:
                data = zlib.decompress(data, -zlib.MAX_WBITS, size)
        except FileNotFoundError:
            raise DataError(f"{self.where} has vanished since the data set was opened; restore it or open anew.") from None
        except (OSError, zlib.error, struct.error) as error:
            raise DataError(f"{shown(self.path(name))} cannot be read from the .zip ({error}); download it again.") from None
        if len(data) != size or zlib.crc32(data) != checksum:
            raise DataError(f"{shown(self.path(name))} is damaged inside the .zip; download it again.")
        return data

    def _at(self, offset: int, count: int) -> bytes:
        if self._descriptor is None:
            with self._opening:
                if self._descriptor is None:
                    self._descriptor = os.open(self.where, os.O_RDONLY)
                    weakref.finalize(self, os.close, self._descriptor)
        return os.pread(self._descriptor, count, offset)


class Union:
    """Several places as one, for data sets that are published in parts; the first place that holds a name gives it."""

    def __init__(self, where: str, parts: list[Files]):
        self.where, self._parts = where, parts
        self._part_of = {name: part for part in reversed(parts) for name in part.names()}

    def names(self) -> list[str]:
        return sorted(self._part_of)

    def path(self, name: str) -> str:
        return self._part_of[name].path(name)

    def read(self, name: str) -> bytes:
        return self._part_of[name].read(name)

    def size(self, name: str) -> int:
        return self._part_of[name].size(name)

    def state(self, name: str) -> str:
        return self._part_of[name].state(name)


def locate(name: str, source: str | os.PathLike | None) -> Path:
    """`source`, or $REIN_DATA/<name> when it is None; a DataError if there is nothing."""
    if source is None:
        root = os.environ.get("REIN_DATA")
        if not root:
            raise DataError(
                f"No source for data set {name!r}: pass source=FOLDER (--source FOLDER), "
                f"or set REIN_DATA to the folder that holds {name}/."
            )
        source = Path(root) / name
        if not source.exists():
            source = next((p for p in [source.with_suffix(".zip")] if p.exists()), source)
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(
            f"{path} does not exist; point the source of data set {name!r} at the folder or .zip that you downloaded."
        )
    return path


def open_files(path: Path, *, with_zips: bool = False) -> Files:
    """The files of a folder or a .zip; `with_zips` adds those in .zip files that lie directly in the folder."""
    if path.is_dir():
        zips = sorted(p for p in path.iterdir() if p.suffix.lower() == ".zip" and _wanted(p.name)) if with_zips else []
        return Union(str(path), [Folder(path), *map(Zip, zips)]) if zips else Folder(path)
    if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        return Zip(path)
    raise DataError(f"{path} is neither a folder nor a .zip; unpack it and point at the folder.")

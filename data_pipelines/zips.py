"""Files inside a .zip, read at their place in it without unpacking; nothing in an untrusted archive can do harm."""

from __future__ import annotations

import os
import posixpath
import re
import stat
import struct
import threading
import weakref
import zipfile
import zlib

from data_pipelines.errors import DataError
from data_pipelines.files import MAX_BYTES, shown, wanted
from data_pipelines.pictures import describe

HEAD = b"PK\x03\x04"
_EMPTY = b"PK\x05\x06"
_MAX_RATIO, _ALWAYS_ALLOWED = 100, 256 << 20  # a member may inflate to 100 times its packed size, or to 256 MiB
_OTHERS = (
    (0, b"Rar!\x1a\x07", "a .rar archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a .7z archive"),
    (0, b"\x1f\x8b\x08", "packed by gzip (.gz, .tgz)"),
    (0, b"BZh", "packed by bzip2"),
    (0, b"\xfd7zXZ\0", "packed by xz"),
    (0, b"\x28\xb5\x2f\xfd", "packed by zstd"),
    (257, b"ustar", "a .tar archive"),
)


def is_zip(path: str | os.PathLike) -> bool:
    """Whether a file begins as a .zip does and has its table of contents at the end."""
    return _begin(path).startswith((HEAD, _EMPTY)) and zipfile.is_zipfile(path)


def other_archive(path: str | os.PathLike) -> str | None:
    """What kind of archive a file is that is no .zip, by its signature; None for what is no archive."""
    begin = _begin(path)
    return next((what for at, signature, what in _OTHERS if begin[at:].startswith(signature)), None)


def _begin(path: str | os.PathLike) -> bytes:
    if not os.path.isfile(path):  # a named pipe would be waited for
        return b""
    try:
        with open(path, "rb") as file:
            return file.read(264)
    except OSError:
        return b""


class Zip:
    """Files inside one .zip, read at their place in it: no lock, no shared position, one open file a process.

    Backslashes in names, which some programs on Windows write, count as "/"; a leading "/" or drive is dropped. Links are followed
    inside the archive only.
    """

    def __init__(self, path: str | os.PathLike):
        self.where = str(path)
        if (other := other_archive(path)) is not None:
            raise DataError(f"{shown(self.where)} is {other}, not a .zip; unpack it and point at the folder.")
        if not (begin := _begin(path)).startswith((HEAD, _EMPTY)) and (odd := describe(begin)) is not None:
            raise DataError(f"{shown(self.where)} is {odd[0]}, not a .zip; {odd[1]}.")
        try:
            with zipfile.ZipFile(self.where) as archive:
                kept = [(_relative(info.filename, self.where), info) for info in archive.infolist()]
        except DataError:
            raise
        except Exception as error:  # a damaged table of contents makes `zipfile` raise many things
            raise DataError(f"{shown(self.where)} is not a whole .zip ({error}); download it again.") from None
        kept = [(name, info) for name, info in kept if name and wanted(name) and not info.filename.endswith(("/", "\\"))]
        self._check([info for _, info in kept])
        self._entries = {n: (i.header_offset, i.compress_size, i.file_size, i.compress_type, i.CRC) for n, i in kept}
        self._opening, self._descriptor = threading.Lock(), None
        self._links = frozenset(name for name, info in kept if stat.S_ISLNK(info.external_attr >> 16))
        self._follow_links()

    def _check(self, entries: list[zipfile.ZipInfo]) -> None:
        whole = os.stat(self.where).st_size
        for info in entries:
            if info.flag_bits & 1:
                raise DataError(f"{shown(self.where)} is locked by a password; unpack it and point at the folder.")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DataError(f"{shown(self.where)} is packed by a rare method; unpack it and point at the folder.")
            if info.header_offset + info.compress_size > whole:
                raise DataError(f"{shown(self.where)} is not a whole .zip (its end is missing); download it again.")

    def _follow_links(self) -> None:
        """Gives the files that links inside the archive lead to the links' names too; links that lead nowhere stay refused."""
        members = {name: entry for name, entry in self._entries.items() if name not in self._links}
        folders = {name[:at] for name in members for at, letter in enumerate(name) if letter == "/"} if self._links else set()
        for link in sorted(self._links):
            if self._entries[link][2] > 4096:  # no path is longer
                continue
            target = posixpath.normpath(posixpath.join(posixpath.dirname(link), os.fsdecode(self._inflated(link))))
            if target in members:
                self._entries[link] = members[target]
                self._links -= {link}
            elif target in folders and not link.startswith(target + "/"):
                below = [name for name in members if name.startswith(target + "/")]
                self._entries |= {link + name[len(target) :]: members[name] for name in below}

    def __getstate__(self):
        return {"where": self.where, "_entries": self._entries, "_links": self._links}

    def __setstate__(self, state):
        self.__dict__.update(state, _opening=threading.Lock(), _descriptor=None)

    def names(self) -> list[str]:
        """Sorted names with "/" between the parts."""
        return sorted(self._entries)

    def path(self, name: str) -> str:
        """The name of a file for messages."""
        return f"{self.where}/{name}"

    def real(self, name: str) -> str:
        """Equal for two names of one file."""
        return f"{self.where}:{self._entries[name][0]}"

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return self._entries[name][2]

    def state(self, name: str) -> str:
        """The checksum that the .zip holds."""
        return str(self._entries[name][4])

    def read(self, name: str) -> bytes:
        """The content of a file, its checksum verified; DataError for what is damaged, a link that leads out, or far too large."""
        if name in self._links:
            raise DataError(f"{shown(self.path(name))} is a link to what is not in the .zip; pack the files themselves.")
        _, packed_size, size, _, _ = self._entries[name]
        if size > min(MAX_BYTES, max(_ALWAYS_ALLOWED, _MAX_RATIO * packed_size)):
            raise DataError(
                f"{shown(self.path(name))} would inflate from {packed_size / 2**20:.1f} MiB to {size / 2**30:.1f} GiB, as no picture "
                "does; get the .zip anew from its publisher, or unpack it and point at the folder."
            )
        return self._inflated(name)

    def _inflated(self, name: str) -> bytes:
        offset, packed_size, size, method, checksum = self._entries[name]
        try:
            header = self._at(offset, 30)
            start = offset + 30 + sum(struct.unpack("<HH", header[26:30]))  # the file's name and extra fields come first
            data = self._at(start, packed_size)
            if method == zipfile.ZIP_DEFLATED:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)  # never more than is stated
        except FileNotFoundError:
            raise DataError(f"{shown(self.where)} has vanished since the data set was opened; restore it or open it again.") from None
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


def _relative(name: str, where: str) -> str:
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts:
        raise DataError(f"{shown(where)} holds {shown(name)!r}, which leads out of the archive; get the .zip from a source you trust.")
    return "/".join(parts[1:] if parts and re.fullmatch("[A-Za-z]:", parts[0]) else parts)

"""Where a data set lies: a folder, a .zip, or a folder of .zip parts."""

from __future__ import annotations

import os
from pathlib import Path

from data_pipelines.errors import DataError
from data_pipelines.files import Files, Folder, shown, wanted
from data_pipelines.paths import local_path
from data_pipelines.pictures import SUFFIXES
from data_pipelines.zips import Zip, is_zip, other_archive


class Under:
    """A place seen as a folder of this name: a .zip whose pictures lie in no folder, which are meant to lie in one of its name."""

    def __init__(self, folder: str, inner: Files):
        self.where, self._folder, self._inner = inner.where, f"{folder}/", inner

    def names(self) -> list[str]:
        """Sorted names, all with the folder."""
        return [self._folder + name for name in self._inner.names()]

    def path(self, name: str) -> str:
        """The name of a file for messages."""
        return self._inner.path(name.removeprefix(self._folder))

    def real(self, name: str) -> str:
        """Equal for two names of one file."""
        return self._inner.real(name.removeprefix(self._folder))

    def read(self, name: str) -> bytes:
        """The content of a file."""
        return self._inner.read(name.removeprefix(self._folder))

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return self._inner.size(name.removeprefix(self._folder))

    def state(self, name: str) -> str:
        """What changes when a file is rewritten in place."""
        return self._inner.state(name.removeprefix(self._folder))


class Union:
    """Several places as one, for data sets that are published in parts; the first place that holds a name gives it."""

    def __init__(self, where: str, parts: list[Files]):
        self.where, self._parts = where, parts
        self._part_of = {name: part for part in reversed(parts) for name in part.names()}

    def names(self) -> list[str]:
        """Sorted names of all places."""
        return sorted(self._part_of)

    def path(self, name: str) -> str:
        """The name of a file for messages."""
        return self._part_of[name].path(name)

    def real(self, name: str) -> str:
        """Equal for two names of one file."""
        return self._part_of[name].real(name)

    def read(self, name: str) -> bytes:
        """The content of a file."""
        return self._part_of[name].read(name)

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return self._part_of[name].size(name)

    def state(self, name: str) -> str:
        """What changes when a file is rewritten in place."""
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
        source = local_path(root) / name
        if not source.exists():
            source = next((p for p in [source.with_suffix(".zip")] if p.exists()), source)
    path = local_path(source)
    if not path.exists():
        raise DataError(
            f"{shown(str(path))} does not exist; point the source of data set {name!r} at the folder or .zip that you downloaded."
        )
    return path


def open_files(path: Path, *, with_zips: bool = False) -> Files:
    """The files of a folder or a .zip; `with_zips` adds those in .zip files that lie directly in the folder."""
    if path.is_dir():
        zips = zips_in(path) if with_zips else []
        return Union(str(path), [Folder(path), *map(_part, zips)]) if zips else Folder(path)
    if not path.is_file():
        raise DataError(f"{shown(str(path))} is neither a folder nor a file; point at the folder or .zip of the data set.")
    if path.suffix.lower() == ".zip" or is_zip(path):
        return Zip(path)
    if path.suffix.lower() in SUFFIXES:
        raise DataError(f"{shown(str(path))} is a single picture; point at the folder that holds the images and masks.")
    what = other_archive(path) or "neither a folder nor a .zip"
    raise DataError(f"{shown(str(path))} is {what}; unpack it and point at the folder.")


def _part(path: Path) -> Files:
    """A .zip that lies in the folder of a data set."""
    made = Zip(path)
    flat = any(name.lower().endswith(SUFFIXES) for name in made.names()) and not any("/" in name for name in made.names())
    return Under(path.stem, made) if flat else made


def zips_in(folder: Path) -> list[Path]:
    """The .zip files that lie directly in a folder, in order."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() == ".zip" and wanted(p.name) and p.is_file())

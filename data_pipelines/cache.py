"""Decoded copies of a source on disk: decoding is most of a loader's time, and small sets fit on a disk decoded.

A cache is a folder named after the source's version (a corrected mask makes another one), with one file of raw pixels that is
mapped into memory and one index. 2048x1024 images take 8 MiB each with their labels: 701 CamVid frames of 960x720 take 1.8 GiB,
Cityscapes train 23 GiB.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import grain
import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.paths import local_path
from data_pipelines.source import version

PIXELS, INDEX = "pixels.bin", "index.json"
logger = logging.getLogger(__name__)


class Cached:
    """A source whose decoded elements lie under `folder`; it decodes and writes them all when they are not there yet.

    Pixels and fingerprint equal the source's. Elements are read-only views of the mapped file. Picklable and thread-safe.
    """

    def __init__(self, source: Any, folder: str | os.PathLike, *, threads: int = 8):
        self.name, self.domain, self.classes = source.name, source.domain, source.classes
        self.has_labels = getattr(source, "has_labels", True)
        self.split, self.found = getattr(source, "split", ""), getattr(source, "found", "")
        self._fingerprint, self._version = source.fingerprint(), version(source)
        self.where = local_path(folder) / f"{source.name}-{self._version[:16]}"
        if (self.where / INDEX).exists():
            logger.info("The images of %s were decoded before; %s is used again.", source.name, self.where)
        else:
            write(source, self.where, threads)
        self._open()

    def _open(self) -> None:
        try:
            index = json.loads((self.where / INDEX).read_text())
            self._names, self._sizes = index["names"], index["sizes"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise DataError(f"{self.where / INDEX} cannot be read ({error}): remove {self.where} and start again.") from None
        self._starts = np.concatenate([[0], np.cumsum([4 * height * width for height, width in self._sizes])])
        path = self.where / PIXELS
        if path.stat().st_size != self._starts[-1]:
            raise DataError(f"{path} does not have the size that its index states: remove {self.where} and start again.")
        self._pixels = np.memmap(path, np.uint8, "r")

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_pixels"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._pixels = np.memmap(self.where / PIXELS, np.uint8, "r")

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, i: int) -> dict[str, Any]:
        (height, width), start = self._sizes[i], self._starts[:-1][i]
        middle, end = start + 3 * height * width, start + 4 * height * width
        image = np.asarray(self._pixels[start:middle]).reshape(height, width, 3)
        return {"image": image, "label": np.asarray(self._pixels[middle:end]).reshape(height, width), "name": self._names[i]}

    def fingerprint(self) -> str:
        """The source's: the pixels are the same."""
        return self._fingerprint

    def version(self) -> str:
        """The source's when the cache was opened."""
        return self._version


def write(source: Any, where: Path, threads: int = 8) -> None:
    """Decode every element of a source into the folder `where`; the folder appears only when it is complete."""
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        _check_space(source, where.parent)
        logger.info("Decoding %d images of %s into %s.", len(source), source.name, where)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{where.name}-", dir=where.parent))
        try:
            _fill(unfinished, source, threads)
            _publish(unfinished, where)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:  # what is wrong with the source is a DataError
        raise DataError(
            f"The decoded cache {where} cannot be written ({error.strerror}): free space, choose another folder or train without a "
            "cache."
        ) from None


def _fill(folder: Path, source: Any, threads: int) -> None:
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    elements = grain.MapDataset.range(len(source)).map(source.__getitem__).to_iter_dataset(options)
    names, sizes = [], []
    with open(folder / PIXELS, "wb") as file:
        for element in elements:
            file.write(np.ascontiguousarray(element["image"]).data)
            file.write(np.ascontiguousarray(element["label"]).data)
            names.append(element["name"])
            sizes.append(list(element["label"].shape))
    (folder / INDEX).write_text(json.dumps({"names": names, "sizes": sizes}))


def _publish(unfinished: Path, where: Path) -> None:
    try:
        os.rename(unfinished, where)
    except OSError:
        if not (where / INDEX).exists():  # otherwise another process was first, with the same pixels
            raise DataError(f"{where} is in the way of a new cache: remove it.") from None


def _check_space(source: Any, folder: Path) -> None:
    if not len(source):
        raise DataError(f"{source.name} holds no images to cache: check its folder and split.")
    needed = source[0]["label"].size * 4 * len(source)
    free = shutil.disk_usage(folder).free
    if needed > 0.95 * free:
        raise DataError(
            f"The decoded cache of {source.name} needs about {needed / 2**30:.1f} GiB but {folder} has {free / 2**30:.1f} GiB free: "
            "choose another folder or train without a cache."
        )

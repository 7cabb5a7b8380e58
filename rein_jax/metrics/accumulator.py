"""Counts of every image of one domain: what is summed, compared, resumed and sent between processes, always as integers."""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import jax
import numpy as np

from rein_jax.metrics.calibration import LEVELS


@dataclass
class MetricAccumulator:
    """Per-image counts of a domain with N images and K classes; rows of images that are not done are zero.

    key: text that names model, protocol and data set; counts under another key are never mixed in.
    matrices uint32 [N,K,K]; boundary uint32 [N,3,K] and calibration uint32 [N,LEVELS,2] if measured; skipped: {image: why}.
    """

    key: str
    images: int
    classes: int
    measures: tuple[str, ...] = ()  # of "boundary", "calibration"
    done: np.ndarray = field(init=False)
    names: np.ndarray = field(init=False)
    conditions: np.ndarray = field(init=False)
    matrices: np.ndarray = field(init=False)
    boundary: np.ndarray | None = field(init=False, default=None)
    calibration: np.ndarray | None = field(init=False, default=None)
    skipped: dict[int, str] = field(init=False, default_factory=dict)

    def __post_init__(self):
        n, k = self.images, self.classes
        self.done, self.names, self.conditions = np.zeros(n, bool), np.full(n, "", object), np.full(n, "", object)
        self.matrices = np.zeros((n, k, k), np.uint32)
        self.boundary = np.zeros((n, 3, k), np.uint32) if "boundary" in self.measures else None
        self.calibration = np.zeros((n, LEVELS, 2), np.uint32) if "calibration" in self.measures else None

    def put(self, index: int, name: str, condition: str, counts: dict[str, np.ndarray]) -> None:
        """Record one image: counts has "matrix" and what else is measured."""
        self.names[index], self.conditions[index], self.done[index] = name, condition, True
        self.matrices[index] = counts["matrix"]
        for measure in self.measures:
            getattr(self, measure)[index] = counts[measure]

    def skip(self, index: int, why: str) -> None:
        """Record that an image could not be measured."""
        self.skipped[int(index)] = why

    def open_images(self) -> list[int]:
        """Images neither done nor skipped. A later run tries skipped ones again: `Domain` does not take them over."""
        return [int(i) for i in np.flatnonzero(~self.done) if int(i) not in self.skipped]

    def total(self, what: str = "matrices", condition: str | None = None) -> np.ndarray:
        """int64 sum over all images, or over those of one condition."""
        array = getattr(self, what)
        chosen = array if condition is None else array[self.conditions == condition]
        return chosen.sum(0, dtype=np.int64)

    def merge(self, other: MetricAccumulator, only: Iterable[int] | None = None) -> None:
        """Take over the images of another accumulator of the same key (all, or those named) that this one lacks."""
        wanted = np.zeros(self.images, bool)
        wanted[list(only) if only is not None else slice(None)] = True
        rows = other.done & ~self.done & wanted
        for name in ("done", "names", "conditions", "matrices", *self.measures):
            getattr(self, name)[rows] = getattr(other, name)[rows]
        self.skipped.update({i: why for i, why in other.skipped.items() if wanted[i] and not self.done[i]})

    def to_bytes(self) -> bytes:
        """A compressed npz file (readable with `numpy.load`, no pickles)."""
        arrays = {
            "key": np.array(self.key), "done": self.done, "matrices": self.matrices, "classes": np.array(self.classes),
            "names": np.array(json.dumps(self.names.tolist())), "conditions": np.array(json.dumps(self.conditions.tolist())),
            "skipped": np.array(json.dumps({str(i): why for i, why in sorted(self.skipped.items())})),
            **{measure: getattr(self, measure) for measure in self.measures},
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, most: float = math.inf) -> MetricAccumulator:
        """The accumulator that `to_bytes` wrote; ValueError if the bytes are something else, or hold more than `most` bytes unpacked."""
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as parts:
                size = sum(part.file_size for part in parts.infolist())
            if size > most:
                raise ValueError(f"it unpacks to {size / 2**20:,.0f} MiB")
            with np.load(io.BytesIO(data)) as file:
                return cls._of({name: file[name] for name in file})
        except (KeyError, TypeError, AttributeError, OSError, EOFError, RuntimeError, MemoryError, OverflowError, zipfile.BadZipFile,
                zlib.error) as error:
            raise ValueError(str(error) or type(error).__name__) from None

    @classmethod
    def _of(cls, parts: dict[str, np.ndarray]) -> MetricAccumulator:
        measures = tuple(name for name in ("boundary", "calibration") if name in parts)
        accumulator = cls(str(parts["key"]), len(parts["done"]), int(parts["classes"]), measures)
        for name in ("done", "matrices", *measures):
            known = getattr(accumulator, name)
            if (parts[name].shape, parts[name].dtype) != (known.shape, known.dtype):
                raise ValueError(f"{name} is {parts[name].dtype} {parts[name].shape}, not {known.dtype} {known.shape}")
            setattr(accumulator, name, parts[name])
        for name in ("names", "conditions"):
            texts = json.loads(str(parts[name]))
            if not isinstance(texts, list) or len(texts) != accumulator.images or not all(isinstance(text, str) for text in texts):
                raise ValueError(f"{name} is not a list of {accumulator.images} texts")
            setattr(accumulator, name, np.array([*texts, None], object)[:-1])
        accumulator.skipped = {int(i): str(why) for i, why in json.loads(str(parts["skipped"])).items()}
        return accumulator


def gather_bytes(data: bytes) -> list[bytes]:
    """Every JAX process's bytes, on each of them."""
    if jax.process_count() == 1:
        return [data]
    from jax.experimental import multihost_utils

    sizes = np.asarray(multihost_utils.process_allgather(np.array([len(data)], np.int32))).reshape(-1)
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    rows = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(sizes), -1)
    return [row[:size].tobytes() for row, size in zip(rows, sizes, strict=True)]

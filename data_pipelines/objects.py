"""Any object with a length and elements as a source, for data that no data set here knows how to read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from data_pipelines.classlist import class_info
from data_pipelines.errors import DataError
from data_pipelines.labels import VOID, ClassInfo
from data_pipelines.source import Encoded, Facts, Source

SAMPLED = 8  # elements that enter the fingerprint


class ObjectSource(Source):
    """A source over `data`, of which data[i] is {"image", "label"[, "name"]} or (image, label).

    image: uint8 [H, W, 3], RGB; label: integer [H, W], class indices, 255 where there is none; both anything that NumPy converts. Every
    element is checked when it is read.
    """

    def __init__(self, data: Any, classes: Any = None, *, name: str | None = None, split: str = "train", policy: str = "raise",
                 **unknown: Any):
        if unknown:
            raise DataError(f"{type(data).__name__} has no option {next(iter(unknown))!r}; an object as data set takes classes, name, "
                            "policy, split.")
        missing = [method for method in ("__len__", "__getitem__") if not hasattr(data, method)]
        if missing:
            raise DataError(f"{type(data).__name__} is not a data set: it lacks {' and '.join(missing)}; give an object with a length "
                            "whose "
                            "elements are {'image': ..., 'label': ...}.")
        classes = getattr(data, "classes", None) if classes is None else classes
        if classes is None:
            raise DataError(f"{type(data).__name__} does not say its classes; give classes=, names in the order of the labels' values.")
        name = name or getattr(data, "name", None) or type(data).__name__
        found = f"{len(data)} elements of {type(data).__module__}.{type(data).__qualname__}"
        super().__init__(Facts(str(name), split, str(name), class_info(classes), found, None), policy=policy)
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def read(self, index: int) -> dict[str, Any]:
        """Element `index`, checked; a DataError names the source, the element and what does not fit."""
        index = self._index(index)
        image, label, name = self._parts(self.data[index], index)
        where = f"{self.name}: element {index}"
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or min(image.shape) < 1:
            raise DataError(f"{where}: the image is {image.dtype} {image.shape}; it must be uint8 [height, width, 3], RGB.")
        if label.dtype.kind not in "iu" or label.shape != image.shape[:2]:
            raise DataError(f"{where}: the label is {label.dtype} {label.shape}; it must hold whole numbers and have the image's size, "
                            f"{image.shape[:2]}.")
        strangers = np.unique(label[(label < 0) | (label >= len(self.classes)) & (label != VOID)])
        if strangers.size:
            raise DataError(f"{where}: the label holds {', '.join(map(str, strangers[:5]))}, but there are the classes 0 to "
                            f"{len(self.classes) - 1}; give what has no class the value {VOID}.")
        return {"image": image, "label": label.astype(np.uint8), "name": name}

    def _parts(self, element: Any, index: int) -> tuple[np.ndarray, np.ndarray, str]:
        """(image, label, name) of what the object gave."""
        if isinstance(element, Mapping):
            lacking = [key for key in ("image", "label") if key not in element]
            if lacking:
                raise DataError(f"{self.name}: element {index} has no {lacking[0]!r}, only {', '.join(map(repr, element)) or 'nothing'}.")
            image, label = element["image"], element["label"]
        elif isinstance(element, tuple | list) and len(element) == 2:
            image, label = element
        else:
            raise DataError(f"{self.name}: element {index} is a {type(element).__name__}; it must be {{'image': ..., 'label': ...}} or "
                            "(image, label).")
        name = element.get("name") if isinstance(element, Mapping) else None
        try:
            return np.asarray(image), np.asarray(label), str(name or self.entry_name(index))
        except (TypeError, ValueError) as error:
            raise DataError(f"{self.name}: element {index} is nothing that NumPy makes an array of: {error}") from error

    def entry_name(self, index: int) -> str:
        """Name of element `index` where it does not say one."""
        return f"{self.name}-{index}"

    def entries(self) -> list[tuple[str, int, int]]:
        """(name, 0, 0) of every element: there are no files."""
        return [(self.entry_name(i), 0, 0) for i in range(len(self))]

    def encoded(self, index: int) -> Encoded:
        """There are no encoded files."""
        raise DataError(f"{self.name} is an object in memory, not files; it can be trained and evaluated on, but not prepared as records.")

    def fingerprint(self) -> str:
        """The object's own `fingerprint()`, or a hash of its type, length, classes and a few elements, evenly spaced.

        A run is resumed only on data of the same fingerprint. An object that changes elsewhere than in these, or that gives another element
        each time it is asked (random augmentation), should have its own.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        own = getattr(self.data, "fingerprint", None)
        if callable(own):
            return str(own())
        digest = hashlib.sha256(repr((self.found, self.classes.names, self.split)).encode())
        for index in np.unique(np.linspace(0, len(self) - 1, min(SAMPLED, len(self))).round().astype(int)) if len(self) else ():
            element = self[int(index)]  # by the policy
            digest.update(element["image"].tobytes() + element["label"].tobytes())
        return digest.hexdigest()


def is_source(data: Any) -> bool:
    """Whether an object keeps a source's contract (ARCHITECTURE.md) already."""
    attributes = ("name", "domain", "split", "fingerprint")
    return isinstance(getattr(data, "classes", None), ClassInfo) and all(hasattr(data, name) for name in attributes)


def as_source(data: Any, **options: Any) -> Any:
    """`data` itself if it is a source, otherwise an `ObjectSource` over it."""
    return data if is_source(data) else ObjectSource(data, **options)


def open_object(data: Any, *, split: str | None = None, **options: Any) -> Any:
    """`as_source` for options that a user gave: a source has its own, and others are refused."""
    if not is_source(data):
        return ObjectSource(data, split=split or "train", **options)
    given = [key for key, value in options.items() if value is not None]
    if split not in (None, data.split):
        given.append("split")
    if given:
        raise DataError(f"{data.name} is a source already, opened at split {data.split!r}; give {given[0]}= where it is opened.")
    return data

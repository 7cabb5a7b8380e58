"""Images of a source at the resolution of a protocol, read ahead in threads; an unreadable one is handed on by name."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.protocols import Protocol

CONDITIONS = {"acdc": re.compile(r"(?:^|/)(fog|night|rain|snow)/")}  # data set -> where an element's name says its condition


@dataclass
class Loaded:
    """Element `index` of a source: image at test resolution, label as it is compared; or `problem` in words."""

    index: int
    name: str
    image: np.ndarray | None = None
    label: np.ndarray | None = None
    condition: str = ""
    problem: str | None = None


class Loader:
    """Iterates over the elements `indices` of a source in order; `waited` is the time spent waiting for them (seconds)."""

    def __init__(self, source: Any, indices: Sequence[int], protocol: Protocol, threads: int = 4, ahead: int = 8):
        self.source, self.indices, self.protocol = source, indices, protocol
        self.threads, self.ahead, self.waited = threads, ahead, 0.0

    def __iter__(self) -> Iterator[Loaded]:
        with ThreadPoolExecutor(self.threads, thread_name_prefix="rein-load") as pool:
            coming: deque = deque()
            remaining = iter(self.indices)
            try:
                while True:
                    while len(coming) < self.ahead and (index := next(remaining, None)) is not None:
                        coming.append(pool.submit(self._load, index))
                    if not coming:
                        return
                    begin = time.perf_counter()
                    loaded = coming.popleft().result()
                    self.waited += time.perf_counter() - begin
                    yield loaded
            finally:
                for future in coming:
                    future.cancel()

    def _load(self, index: int) -> Loaded:
        skips = getattr(self.source, "policy", "raise") == "skip"  # then source[i] would put another element in a bad one's place
        try:
            element = self.source.read(index) if skips else self.source[index]
        except (DataError, OSError) as error:
            return Loaded(index, entry_name(self.source, index), problem=str(error))
        except MemoryError:
            return Loaded(index, entry_name(self.source, index), problem="there is too little memory to decode it.")
        image, label, name = element["image"], element["label"], str(element["name"])
        if image.shape[:2] != label.shape:
            why = f"the label is {_size(label)} but the image is {_size(image)}; make the pair equal in size."
            return Loaded(index, name, problem=why)
        image, label = self.protocol.apply(image, label, self.source)
        return Loaded(index, name, image, label, element.get("condition") or condition(self.source, name))


def entry_name(source: Any, index: int) -> str:
    """Name of an element without its image, as far as the source can tell."""
    try:
        return str(source.entry_name(index))
    except (AttributeError, DataError, OSError):  # sources need not know names before reading; a damaged record has none
        return f"element {index}"


def condition(source: Any, name: str) -> str:
    """The condition that the element's name states, or ""."""
    pattern = CONDITIONS.get(getattr(source, "name", ""))
    found = pattern.search(name) if pattern else None
    return found[1] if found else ""


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"

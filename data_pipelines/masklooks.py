"""What is seen in single masks: their values, the colours that these are shown in, and whether values occur only along edges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from data_pipelines.classrows import Colour
from data_pipelines.errors import DataError
from data_pipelines.images import decode_colours, decode_label, label_mode, label_palette
from data_pipelines.png import SIGNATURE

SAMPLE = 32  # masks looked at before a class list is believed


@dataclass(frozen=True)
class Look:
    """One mask. `values` and `colours` map what is stored and what is shown to numbers of pixels.

    `values` is None for a true-colour picture, `shown` gives the colour of every value (empty where a value has none), `solid` the
    values that fill a square of 3x3 pixels somewhere. `kind` is "grey", "palette" or "rgb".
    """

    file: str
    kind: str
    values: dict[int, int] | None
    colours: dict[Colour, int] = field(default_factory=dict)
    shown: dict[int, Colour] = field(default_factory=dict)
    solid: frozenset[int] = frozenset()

    @property
    def whole(self) -> bool:
        """Whether all of it can be read as colours."""
        return self.values is None or len(self.shown) == len(self.values)


@dataclass(frozen=True)
class Masks:
    """Mask files by name and the function that reads them; `file(name)` is the name for messages.

    `tolerant` passes over files that cannot be read, unless none can: with policy "skip" they are listed when they are drawn.
    """

    names: Sequence[str]
    read: Callable[[str], bytes]
    file: Callable[[str], str]
    tolerant: bool = False

    def sample(self) -> Masks:
        """At most SAMPLE masks, evenly spaced."""
        step = max(1, len(self.names) // SAMPLE)
        return replace(self, names=self.names[::step][:SAMPLE])

    def each(self, look: Callable[[bytes, str], Any]) -> list[Any]:
        """`look(bytes, file)` of every mask, in threads."""
        problems: list[DataError] = []

        def one(name: str) -> Any:
            try:
                return look(self.read(name), self.file(name))
            except DataError as error:
                if not self.tolerant:
                    raise
                problems.append(error)
                return None

        with ThreadPoolExecutor(8) as pool:
            answers = [answer for answer in pool.map(one, self.names) if answer is not None]
        if problems and not answers:
            raise min(problems, key=str)
        return answers

    def looks(self) -> list[Look]:
        """A look at every mask."""
        return self.each(look)

    def values(self) -> Counter[int]:
        """Pixels of every value over all masks."""
        return total(self.each(lambda data, file: _counts(decode_label(data, file))))

    def colours(self) -> Counter[Colour]:
        """Pixels of every colour over all masks."""
        return total(self.each(lambda data, file: _colour_counts(decode_colours(data, file))))


def look(data: bytes, file: str) -> Look:
    """Looks at one mask."""
    mode = label_mode(data, file)
    if mode in ("RGB", "RGBA", "RGBX"):
        rgb = decode_colours(data, file)
        if not (np.array_equal(rgb[..., 0], rgb[..., 1]) and np.array_equal(rgb[..., 0], rgb[..., 2])):
            return Look(file, "rgb", None, _colour_counts(rgb))
    raw = decode_label(data, file)
    values = _counts(raw)
    shown = _shown(mode, raw, values, data, file)
    colours = total({shown[v]: n} for v, n in values.items() if v in shown)
    kind = {"P": "palette", "RGB": "rgb", "RGBA": "rgb", "RGBX": "rgb"}.get(mode, "grey")
    return Look(file, kind, values, dict(colours), shown, _solid(raw))


def _shown(mode: str, raw: np.ndarray, values: Iterable[int], data: bytes, file: str) -> dict[int, Colour]:
    """The colour of every value: palettes say it, and grey of few bits is stretched."""
    if mode == "P":
        palette = label_palette(data, file).tolist()
        return {v: tuple(palette[v]) for v in values if v < len(palette)}
    if mode == "1" or (data[:8] == SIGNATURE and data[24] < 8):
        rgb = decode_colours(data, file)
        return {v: tuple(rgb[raw == v][0].tolist()) for v in values}
    return {v: (v, v, v) for v in values if 0 <= v <= 255}


def total(counts: Iterable[dict]) -> Counter:
    """Sum of counts."""
    out: Counter = Counter()
    for one in counts:
        out.update(one)
    return out


def _counts(raw: np.ndarray) -> dict[int, int]:
    if raw.dtype == np.uint8:
        counts = np.bincount(raw.ravel(), minlength=256)
        return {int(v): int(counts[v]) for v in np.flatnonzero(counts)}
    values, counts = np.unique(raw, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _colour_counts(rgb: np.ndarray) -> dict[Colour, int]:
    wide = rgb.astype(np.int32)
    codes, counts = np.unique(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2], return_counts=True)
    return {(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255): int(n) for c, n in zip(codes, counts, strict=True)}


def _solid(raw: np.ndarray) -> frozenset[int]:
    if min(raw.shape) < 3:
        return frozenset(np.unique(raw).tolist())
    same = raw[:, :-1] == raw[:, 1:]
    across = same[:, :-1] & same[:, 1:]
    below = raw[:-1, 1:-1] == raw[1:, 1:-1]
    whole = across[:-2] & across[1:-1] & across[2:] & below[:-1] & below[1:]
    return frozenset(_counts(raw[1:-1, 1:-1][whole]))

"""Looks into masks to tell how classes are stored in them, and refuses to guess where two readings would differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from data_pipelines.classlist import ClassList, Colour, distinct_colours
from data_pipelines.decoders import ColourLabels, IndexLabels
from data_pipelines.errors import DataError
from data_pipelines.images import decode_colours, decode_label, label_mode, label_palette
from data_pipelines.labels import MAX_CLASSES, VOID, Classes, IdMap, ranges

ENCODINGS = ("auto", "index", "colour")
SAMPLE = 32  # masks looked at before a class list is believed
MOST_COLOURS = 64


@dataclass(frozen=True)
class Reading:
    """How masks are read: the decoder, the classes, and a phrase that says what was found."""

    decode: Any
    classes: Classes
    found: str


@dataclass(frozen=True)
class Masks:
    """Mask files by name and the function that reads them; `file(name)` is the name for messages.

    `tolerant` passes over files that cannot be read: with policy "skip" they are listed when they are drawn.
    """

    names: Sequence[str]
    read: Callable[[str], bytes]
    file: Callable[[str], str]
    tolerant: bool = False

    def sample(self) -> Masks:
        """At most SAMPLE masks, evenly spaced."""
        step = max(1, len(self.names) // SAMPLE)
        return Masks(self.names[::step][:SAMPLE], self.read, self.file, self.tolerant)

    def each(self, look: Callable[[bytes, str], Any]) -> list[Any]:
        """`look(bytes, file)` of every mask, in threads."""

        def one(name: str) -> Any:
            try:
                return look(self.read(name), self.file(name))
            except DataError:
                if not self.tolerant:
                    raise
                return None

        with ThreadPoolExecutor(8) as pool:
            return [answer for answer in pool.map(one, self.names) if answer is not None]


def read_masks(
    masks: Masks,
    listed: ClassList | None,
    ignore: int | None,
    values: Sequence[int] | None,
    encoding: str,
    tolerant: bool = False,
) -> Reading:
    """Decides how masks are stored. `ignore` None means 255, unless masks hold only 0 and 255 and so are binary."""
    if encoding not in ENCODINGS:
        raise DataError(f"encoding={encoding!r} is unknown; choose one of {', '.join(ENCODINGS)}.")
    masks = replace(masks, tolerant=tolerant)
    coloured = _coloured(masks, listed) if encoding == "auto" else encoding == "colour"
    if coloured:
        if values is not None:
            raise DataError(
                "values= belongs to masks of class indices, but these masks are colour-coded; give colours in the class list."
            )
        return _by_colour(masks, listed)
    return _by_index(masks, listed, ignore, values)


def _coloured(masks: Masks, listed: ClassList | None) -> bool:
    """Whether sampled masks are colour-coded; refuses a mixture and a palette that says something else than its indices."""
    answers = dict(masks.sample().each(lambda data, file: (_one(data, file, listed), file)))
    if len(answers) > 1:
        raise DataError(f"{answers[True]} is colour-coded but {answers[False]} holds class indices; save all masks alike.")
    return next(iter(answers), False)


def _one(data: bytes, file: str, listed: ClassList | None) -> bool:
    mode = label_mode(data, file)
    if mode in ("RGB", "RGBA", "RGBX"):
        rgb = decode_colours(data, file)
        grey = np.array_equal(rgb[..., 0], rgb[..., 1]) and np.array_equal(rgb[..., 0], rgb[..., 2])
        return not grey or bool(listed and listed.colours)
    if mode == "P" and listed and listed.colours:
        return _palette_disagrees(data, file, listed.colours)
    return False


def _palette_disagrees(data: bytes, file: str, colours: tuple[Colour, ...]) -> bool:
    """Whether a palette's colours are all from the class list but name other classes than the indices do."""
    used = [int(v) for v in np.unique(decode_label(data, file))]
    palette = label_palette(data, file)
    seen = {v: tuple(int(c) for c in palette[v]) for v in used if v < len(palette)}
    if not seen or any(colour not in colours for colour in seen.values()):
        return False
    if all(v < len(colours) and colours[v] == colour for v, colour in seen.items()):
        return False
    if all(v < len(colours) or v == VOID for v in used):
        raise DataError(
            f"{file} has a palette whose colours name other classes than its indices do; "
            "pass encoding='index' or encoding='colour'."
        )
    return True


def _by_colour(masks: Masks, listed: ClassList | None) -> Reading:
    if listed is not None and listed.colours is None:
        seen = sorted({colour for found in masks.sample().each(_colours) for colour in found})[:8]
        raise DataError(
            f"The masks are colour-coded but {listed.where} gives no colours; write `name red green blue` on each line "
            f"(colours seen: {', '.join(map(str, seen))})."
        )
    if listed is not None:
        rows = tuple((*colour, train) for colour, train in zip(listed.colours, listed.train_ids(), strict=True))
        return Reading(ColourLabels(rows), listed.classes(), f"{len(listed.classes())} classes by colour from {listed.where}")
    colours = sorted({colour for found in masks.each(_colours) for colour in found})
    if len(colours) > MOST_COLOURS:
        raise DataError(
            f"The masks hold {len(colours)} colours, so they are smoothed or no masks; "
            "save them without antialiasing, or list the classes in names.txt."
        )
    names = tuple("#{:02x}{:02x}{:02x}".format(*colour) for colour in colours)
    rows = tuple((*colour, k) for k, colour in enumerate(colours))
    return Reading(
        ColourLabels(rows), Classes(names, tuple(colours)), f"{len(names)} classes by colour, found by looking at all masks"
    )


def _colours(data: bytes, file: str) -> list[Colour]:
    rgb = decode_colours(data, file).astype(np.int32)
    codes = np.unique(rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2])[: MOST_COLOURS + 1]
    return [(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in codes]


def _values(masks: Masks) -> list[int]:
    return sorted({v for found in masks.each(lambda data, file: np.unique(decode_label(data, file)).tolist()) for v in found})


def _by_index(masks: Masks, listed: ClassList | None, ignore: int | None, values: Sequence[int] | None) -> Reading:
    two = listed is not None and len(listed.names) == 2
    if listed is None:
        seen = _values(masks)
    else:
        seen = _values(masks.sample()) if two and values is None and ignore is None else []
        if seen and set(seen) <= {0, VOID} and VOID in seen:
            seen = _values(masks)  # all of them: a few masks without the second class must not turn void into a class
    if ignore is None and values is None and seen in ([0, VOID], [VOID]) and (listed is None or two):
        names = listed.names if two else ("background", "foreground")
        classes = listed.classes() if two else Classes(names, ((0, 0, 0), (255, 255, 255)))
        ids = IdMap("binary mask values", {0: 0, VOID: 1})
        return Reading(IndexLabels(ids), classes, "binary masks, 0 and 255")
    void = VOID if ignore is None else ignore
    if listed is None:
        return _found_values(seen, void)
    values = list(range(len(listed.names))) if values is None else list(values)
    if len(values) != len(listed.names):
        raise DataError(f"values= gives {len(values)} numbers for {len(listed.names)} classes; give one a class.")
    if any(not 0 <= v <= 255 for v in values) or len(set(values)) < len(values):
        raise DataError(f"values={values} must be different numbers from 0 to 255.")
    if ignore is not None and ignore in values:
        clash = listed.names[values.index(ignore)]
        raise DataError(f"ignore={ignore} is also the value of class {clash!r}; say which value each class has with values=.")
    mapping = {void: VOID, **dict(zip(values, listed.train_ids(), strict=True))}
    return Reading(
        IndexLabels(IdMap(f"the class list of {listed.where}", mapping)),
        listed.classes(),
        f"{len(listed.classes())} classes by value from {listed.where}",
    )


def _found_values(seen: Iterable[int], void: int) -> Reading:
    kept = [v for v in seen if v != void]
    if not kept:
        raise DataError(f"The masks hold nothing but the ignored value {void}; check that they are the right files.")
    if kept[-1] >= MAX_CLASSES or kept[0] < 0:
        raise DataError(
            f"The masks hold values {ranges(kept)}, too many for classes; list the classes in names.txt and give values=, "
            "or save 8-bit masks."
        )
    count = kept[-1] + 1
    if void < count:
        raise DataError(
            f"ignore={void} lies among the class values {ranges(kept)}; list the classes in names.txt and give values=."
        )
    classes = Classes(tuple(f"class_{k}" for k in range(count)), distinct_colours(count))
    ids = IdMap("the values found in the masks", {void: VOID, **{k: k for k in range(count)}})
    return Reading(IndexLabels(ids), classes, f"{count} classes by value, found by looking at all masks")

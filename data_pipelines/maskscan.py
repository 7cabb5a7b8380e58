"""Looks into masks to tell how classes are stored in them, and refuses to guess where two readings would differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from data_pipelines import maskfaults
from data_pipelines.classlist import ClassList, distinct_colours
from data_pipelines.decoders import ColourLabels, IndexLabels
from data_pipelines.errors import DataError
from data_pipelines.labels import MAX_CLASSES, VOID, ClassInfo, IdMap
from data_pipelines.masklooks import Look, Masks
from data_pipelines.maskvalues import ignored, index_map, understand

ENCODINGS = ("auto", "index", "colour")
MOST_COLOURS = 64
MOST_VALUES = 64  # more values than these have to be listed


@dataclass(frozen=True)
class Reading:
    """How masks are read: the decoder, the classes, and a phrase that says what was found."""

    decode: Any
    classes: ClassInfo
    found: str
    note: str | None = None  # what `rein data check` warns of


def read_masks(
    masks: Masks, listed: ClassList | None, ignore: Any, values: Any, encoding: str, tolerant: bool = False
) -> Reading:
    """Decides how masks are stored.

    Args:
        masks: the files.
        listed: the user's class list, if there is one.
        ignore: values that are void; None means 255, unless masks hold only 0 and 255 and so are binary.
        values: the option `values` (see `maskvalues`).
        encoding: "index", "colour", or "auto": looked at.
        tolerant: pass over masks that cannot be read, unless none can.

    Raises:
        DataError: masks cannot be read, or can be read in two ways that differ; says what they hold and what to do.
    """
    if encoding not in ENCODINGS:
        raise DataError(f"encoding={encoding!r} is unknown; choose one of {', '.join(ENCODINGS)}.")
    masks = replace(masks, tolerant=tolerant)
    values, ignore = understand(values), ignored(ignore)
    looks = masks.sample().looks()
    if encoding == "auto":
        grey = values is not None and all(look.values is not None for look in looks)
        coloured = not grey and _coloured(masks, looks, listed, ignore)
    else:
        coloured = encoding == "colour"
    if coloured:
        if values is not None:
            raise DataError(
                "values= belongs to masks of class indices, but these masks are colour-coded; give colours in the class list."
            )
        if ignore not in (None, (VOID,)):
            raise DataError(
                "ignore= belongs to masks of class indices, but these masks are colour-coded; write a line `void red green blue` in the "
                "class list."
            )
        return _by_colour(masks, looks, listed)
    if listed is None and values is None:
        return _found_values(masks, looks, ignore)
    return _by_index(masks, looks, listed, ignore, values)


def _coloured(masks: Masks, looks: Sequence[Look], listed: ClassList | None, ignore) -> bool:
    """Whether masks are colour-coded; refuses a mixture, and masks that class values and listed colours both fit differently."""
    colour = next((look for look in looks if look.values is None), None)
    if listed is not None and listed.colours is not None:
        return _listed_colours(masks, looks, listed, ignore)
    grey = next((look for look in looks if look.values is not None and look.kind != "rgb"), None)
    if colour is not None and grey is not None:
        raise DataError(f"{colour.file} is colour-coded but {grey.file} holds class indices; save all masks alike.")
    return colour is not None


def _listed_colours(masks: Masks, looks: Sequence[Look], listed: ClassList, ignore) -> bool:
    """Whether masks hold the colours of the list (greys and palettes may be colours too) and not its class values."""
    ids = index_map(listed, None, ignore)[0].ids
    trains = dict(zip(listed.colours, listed.train_ids(), strict=True))
    by_index = [look for look in looks if look.values is not None and set(look.values) <= set(ids)]
    by_colour = [look for look in looks if look.whole and set(look.colours) <= set(trains)]
    both = [look for look in by_index if look in by_colour]
    differ = [look for look in both if any(ids[value] != trains[look.shown[value]] for value in look.values)]
    white = any(_misses_colour(look, ids, trains) for look in differ)
    fewer, more = sorted((len(by_index), len(by_colour)))
    if fewer < len(looks):
        if differ and 2 * fewer >= len(looks):
            true_colour = any(look.values is None for look in by_colour)  # these are no class numbers, so the others are none
            if (white or true_colour) and len(by_colour) == more:
                return True
            raise _ambiguous(differ[0])
        if fewer == more:  # the values of true-colour pictures mean nothing; else what covers more pixels is nearer
            fit = [sum(n for v, n in (look.values or {}).items() if v in ids) for look in looks]
            shown = [sum(n for c, n in look.colours.items() if c in trains) for look in looks]
            return any(look.values is None for look in looks) or sum(shown) > sum(fit)
        return len(by_colour) > len(by_index)
    if all(look.kind == "palette" for look in looks) and not differ:
        return False
    if len(looks) < len(masks.names):  # the rest may tell
        return _listed_colours(replace(masks, names=()), masks.looks(), listed, ignore)
    if not differ:
        return looks[0].kind == "rgb"
    if white:
        return True
    raise _ambiguous(differ[0])


def _ambiguous(look: Look) -> DataError:
    what = "a palette whose colours" if look.kind == "palette" else "grey values that, taken as the colours of the class list,"
    return DataError(
        f"{look.file} has {what} name other classes than its {'indices' if look.kind == 'palette' else 'values as class numbers'} "
        f"do ({maskfaults.counted(look.values)}); pass encoding='index' or encoding='colour'."
    )


def _misses_colour(look: Look, ids, trains) -> bool:
    """Whether class values make void of what is a listed colour of a class: white, where white is listed, is that class."""
    return any(ids[value] == VOID and trains[look.shown[value]] != VOID for value in look.values)


def _by_colour(masks: Masks, looks: Sequence[Look], listed: ClassList | None) -> Reading:
    if listed is not None and listed.colours is None:
        seen = sorted({colour for look in looks for colour in look.colours})[:8]
        raise DataError(
            f"The masks are colour-coded but {listed.where} gives no colours; write `name red green blue` on each line "
            f"(colours seen: {', '.join(map(str, seen))})."
        )
    if listed is not None:
        odd = sum(not set(look.colours) <= set(listed.colours) for look in looks)
        if odd and 2 * odd >= len(looks):
            raise maskfaults.strange_colours(looks, listed.colours, listed.where)
        rows = tuple((*colour, train) for colour, train in zip(listed.colours, listed.train_ids(), strict=True))
        return Reading(ColourLabels(rows), listed.classes(), f"{len(listed.classes())} classes by colour from {listed.where}")
    counts = masks.colours()
    if len(counts) > MOST_COLOURS or maskfaults.between(counts):
        raise maskfaults.unlisted_colours(counts)
    colours = sorted(counts)
    names = tuple("#{:02x}{:02x}{:02x}".format(*colour) for colour in colours)
    rows = tuple((*colour, k) for k, colour in enumerate(colours))
    return Reading(
        ColourLabels(rows), ClassInfo(names, tuple(colours)), f"{len(names)} classes by colour, found by looking at all masks"
    )


def _by_index(masks: Masks, looks: Sequence[Look], listed: ClassList | None, ignore, values) -> Reading:
    if values is None and ignore is None and len(listed.names) == 2 and listed.values is None and _binary(masks, looks):
        first, second = listed.train_ids()
        return _two_values(first, second, listed.classes())
    ids, classes, listed = index_map(listed, values, ignore)
    odd = sum(not set(look.values or ()) <= set(ids.ids) for look in looks)
    if ids.rest is None and odd and 2 * odd >= len(looks):
        raise maskfaults.strangers(looks, set(ids.ids), ids.name, len(listed.names))
    return Reading(IndexLabels(ids), classes, f"{len(classes)} classes by value from {listed.where}")


def _binary(masks: Masks, looks: Sequence[Look]) -> bool:
    """Whether masks hold 0 and 255 alone; all of them: a few masks without the second class must not turn void into a class."""
    seen = {value for look in looks for value in look.values or ()}
    return VOID in seen and seen <= {0, VOID} and set(masks.values()) <= {0, VOID}


def _two_values(first: int, second: int, classes: ClassInfo) -> Reading:
    return Reading(IndexLabels(IdMap("binary mask values", {0: first, VOID: second})), classes, "binary masks, 0 and 255")


def _found_values(masks: Masks, looks: Sequence[Look], ignore) -> Reading:
    """Classes that are simply what all masks hold: 0, 1, 2, ... with few gaps."""
    counts = masks.values()
    if ignore is None and VOID in counts and set(counts) <= {0, VOID}:
        return _two_values(0, 1, ClassInfo(("background", "foreground"), ((0, 0, 0), (255, 255, 255))))
    void = (VOID,) if ignore is None else ignore
    kept = sorted(set(counts) - set(void))
    if not kept:
        raise DataError(
            f"The masks hold nothing but the ignored value {', '.join(map(str, void))}; check that they are the right files."
        )
    numbers = [k for k in range(max(0, kept[-1]) + 1 if kept[-1] < MAX_CLASSES else 0) if k not in void]
    if kept[0] < 0 or not numbers or len(kept) > MOST_VALUES or len(numbers) > 2 * len(kept) or maskfaults.smoothed(looks):
        raise maskfaults.unlisted_values(counts, kept, looks)
    classes = ClassInfo(tuple(f"class_{k}" for k in numbers), distinct_colours(len(numbers)))
    ids = IdMap("the values found in the masks", {**dict.fromkeys(void, VOID), **{k: train for train, k in enumerate(numbers)}})
    return Reading(
        IndexLabels(ids), classes, f"{len(numbers)} classes by value, found by looking at all masks", maskfaults.edge_note(looks)
    )

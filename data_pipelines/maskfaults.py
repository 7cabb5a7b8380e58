"""Why masks cannot be read as they are: what they hold, with counts, the likely cause, and what to do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from data_pipelines.classrows import Colour
from data_pipelines.errors import DataError
from data_pipelines.labels import VOID, ranges
from data_pipelines.masklooks import Look, total

SHOWN = 8
_AGAIN = "save them again from the originals as PNG, without JPEG, smoothing or antialiasing, resized with nearest neighbour"
_VOIDS = (255, 65535, -1, 2**31 - 1, 2**32 - 1)


def counted(counts: Mapping, most: int = SHOWN) -> str:
    """The commonest entries with their numbers of pixels."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{value} ({count:,} pixels)" for value, count in ranked[:most])
    rest = ranked[most:]
    return listed + (f" and {len(rest)} more ({sum(count for _, count in rest):,} pixels)" if rest else "")


def edge_values(looks: Sequence[Look]) -> set[int]:
    """Values that fill no 3x3 pixels in any mask, as interpolation, antialiasing and JPEG leave them along edges."""
    greys = [look for look in looks if look.values is not None]
    return {value for look in greys for value in look.values} - {value for look in greys for value in look.solid}


def smoothed(looks: Sequence[Look]) -> bool:
    """Whether most values of the masks occur only along edges."""
    seen = {value for look in looks for value in look.values or ()}
    return len(seen) > 3 and 2 * len(edge_values(looks)) >= len(seen)


def edge_note(looks: Sequence[Look]) -> str | None:
    """What is said of masks without a class list some of whose values, taken for classes, occur only along edges."""
    thin = edge_values(looks)
    counts = total(look.values or {} for look in looks)
    if not thin or sum(counts[value] for value in thin) * 100 > sum(counts.values()):
        return None
    listed = counted({value: counts[value] for value in thin})
    return f"These values occur only along edges and are taken for classes: {listed}. If the masks were smoothed or JPEG once, {_AGAIN}."


def between_classes(label: np.ndarray) -> np.ndarray:
    """(edges, how many pass through a number in between) along the rows of a label of class numbers.

    An edge is where the second next pixel has a number that is two or more away. Drawn labels change at once; resized with
    interpolation they pass through the classes that happen to have the numbers in between.
    """
    first, middle, last = label[:, :-2], label[:, 1:-1], label[:, 2:]
    low, high = np.minimum(first, last), np.maximum(first, last)
    edge = (high - low >= 2) & (high != VOID) & (middle != VOID)
    return np.array([edge.sum(), (edge & (middle > low) & (middle < high)).sum()], np.int64)


def looks_interpolated(edges: np.ndarray) -> bool:
    """Whether so many edges pass through numbers in between as only interpolation makes."""
    return bool(edges[0] >= 100 and 2 * edges[1] > edges[0])


def interpolated(edges: np.ndarray) -> str:
    """What is said of labels that look interpolated though all their values are classes."""
    return (f"{100 * edges[1] / edges[0]:.0f} % of the edges between classes pass through a class with a number in between: the masks look "
            f"resized with interpolation or smoothed. If they are, {_AGAIN}.")  # fmt: skip


def between(counts: Mapping[Colour, int]) -> bool:
    """Whether most colours are rare mixtures of two common ones."""
    common = [colour for colour, count in counts.items() if count * 100 >= sum(counts.values())]
    rare = [colour for colour in counts if colour not in common]
    pairs = [(a, b) for k, a in enumerate(common) for b in common[:k]]
    mixed = sum(any(_mixture(colour, *pair) for pair in pairs) for colour in rare)
    return 2 * mixed >= len(counts) and mixed > 2


def _mixture(colour: Colour, one: Colour, other: Colour) -> bool:
    """Whether a colour is one + share * (other - one), a share between 0 and 1, but for rounding."""
    widest = max(range(3), key=lambda k: abs(other[k] - one[k]))
    share = (colour[widest] - one[widest]) / (other[widest] - one[widest])
    return 0 < share < 1 and all(abs(one[k] + share * (other[k] - one[k]) - colour[k]) <= 2 for k in range(3))


def unlisted_values(counts: Mapping[int, int], kept: Sequence[int], looks: Sequence[Look]) -> DataError:
    """Masks without a class list whose values are not simply 0, 1, 2, ..."""
    seen = f"The masks hold {len(counts)} values and no class list says what they mean: {counted(counts)}. "
    if smoothed(looks):
        return DataError(seen + f"Most of them occur only along edges, as smoothing or JPEG leaves them: {_AGAIN}.")
    odd = [value for value in _VOIDS if value in kept]
    if odd and (len(kept) == 1 or kept[-2] < 2 * len(kept)):
        rest = [value for value in kept if value != odd[0]]
        return DataError(seen + f"{odd[0]} looks like what is to be ignored: pass ignore={odd[0]}, or list the classes in names.txt"
                         f" ({ranges(rest)} are the others).")  # fmt: skip
    return DataError(seen + f"List the classes in names.txt, `value: name` on each line, or pass {_example(kept)}.")


def _example(kept: Sequence[int]) -> str:
    """A `values=` that fits these values, with names to replace."""
    shown = "/".join(f"{value}:name{k}" for k, value in enumerate(kept[:4]))
    return f"values='{shown}{'/...' if len(kept) > 4 else ''}'"


def strangers(looks: Sequence[Look], known: Collection[int], title: str, classes: int) -> DataError:
    """Masks most of which hold values that a class list does not give."""
    counts = total(look.values or {} for look in looks)
    odd = {value: count for value, count in counts.items() if value not in known}
    files = [look for look in looks if set(look.values or {}) & set(odd)]
    seen = (f"{len(files)} of the {len(looks)} checked masks hold values outside {title} ({ranges(sorted(known))}): {counted(odd)}; "
            f"in all they hold {counted(counts)}. The first is {files[0].file}. ")  # fmt: skip
    return DataError(seen + _cause(looks, counts, odd, classes))


def _cause(looks: Sequence[Look], counts: Mapping[int, int], odd: Mapping[int, int], classes: int) -> str:
    if smoothed(looks) or set(odd) <= edge_values(looks):
        which = "Most" if smoothed(looks) else "These"
        return f"{which} values occur only along edges, as smoothing or JPEG leaves them: {_AGAIN}."
    if len(odd) == 1 and next(iter(odd)) in _VOIDS:
        return f"{next(iter(odd))} looks like what is to be ignored: pass ignore={next(iter(odd))}."
    if sorted(counts) in (list(range(1, classes + 1)), list(range(classes + 1))) and list(odd) == [classes]:
        numbers = "/".join(str(k) for k in range(1, classes + 1))
        options = f"values='{numbers}'" + (" and ignore=0" if 0 in counts else "")
        return f"They count the classes from 1: add a first line `void`, or pass {options}."
    if len(counts) == classes:
        return (f"There are as many values as classes: if their order is the list's, pass values='{'/'.join(map(str, sorted(counts)))}', "
                "else write `value: name` on each line.")  # fmt: skip
    return "Check that list and masks belong together; write `value: name` on each line, or say with values= what each value means."


def unlisted_colours(counts: Mapping[Colour, int]) -> DataError:
    """Colour-coded masks without a class list that hold too many colours, or mixtures."""
    return DataError(
        f"The masks hold {len(counts):,} colours and no class list says what they mean: {counted(counts)}. They are smoothed, saved as "
        f"JPEG, or no masks: {_AGAIN}, or list the classes with their colours in names.txt."
    )


def strange_colours(looks: Sequence[Look], listed: Collection[Colour], where: str) -> DataError:
    """Masks most of which hold colours that the class list does not give."""
    counts = total(look.colours for look in looks)
    odd = {colour: count for colour, count in counts.items() if colour not in listed}
    files = [look for look in looks if set(look.colours) & set(odd)]
    cause = f"They are smoothed or saved as JPEG: {_AGAIN}" if len(odd) > max(2, len(listed)) else (
        "Add them to the list; a line `void red green blue` marks what is to be ignored")  # fmt: skip
    return DataError(
        f"{len(files)} of the {len(looks)} checked masks hold colours that {where} does not give: {counted(odd)}. The first is "
        f"{files[0].file}. {cause}."
    )

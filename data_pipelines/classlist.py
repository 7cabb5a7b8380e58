"""A user's own class list: names, optional colours, and the colours given to classes that have none."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from data_pipelines.errors import DataError
from data_pipelines.labels import MAX_CLASSES, Classes

Colour = tuple[int, int, int]
VOID_NAMES = ("void", "ignore")  # a line of this name is no class: its value or colour becomes 255
_NUMBERS = re.compile(r"(?P<name>.*?\S)\s*[\s,;:]\s*\(?\s*(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})\s*\)?")
_HEX = re.compile(r"(?P<name>.*?\S)\s*[\s,;:]\s*#([0-9a-fA-F]{6})")


@dataclass(frozen=True)
class ClassList:
    """Lines of a class list in order: the line number (from 0) is the value in index masks; `colours` is None or one a line."""

    names: tuple[str, ...]
    colours: tuple[Colour, ...] | None
    where: str

    def classes(self) -> Classes:
        """The classes without void lines."""
        kept = [k for k, name in enumerate(self.names) if name.lower() not in VOID_NAMES]
        palette = tuple(self.colours[k] for k in kept) if self.colours else distinct_colours(len(kept))
        return Classes(tuple(self.names[k] for k in kept), palette)

    def train_ids(self) -> list[int]:
        """Train id of every line; 255 for void lines."""
        ids, used = [], 0
        for name in self.names:
            void = name.lower() in VOID_NAMES
            ids.append(255 if void else used)
            used += not void
        return ids


def parse(text: str, where: str, short: str | None = None) -> ClassList:
    """A class list from lines such as `road`, `road 128 64 128`, `road, 128, 64, 128` or `road #804080`.

    Blank lines and lines that start with "#" are skipped. Raises DataError that names the line of `where`; `short` is the
    name that the list keeps, so that fingerprints do not depend on where a data set lies.
    """
    names: list[str] = []
    colours: list[Colour | None] = []
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, colour = _line(line)
        if colour is not None and max(colour) > 255:
            raise DataError(f"{where}, line {number}: colour {colour} is outside 0-255; write red green blue.")
        if name in names:
            raise DataError(f"{where}, line {number}: class {name!r} is there twice; give every class its own name.")
        if colour is not None and colour in colours:
            raise DataError(f"{where}, line {number}: colour {colour} is there twice; give every class its own colour.")
        names.append(name)
        colours.append(colour)
    return replace(_whole(names, colours, where), where=short or where)


def from_names(names: Sequence[str], where: str = "classes") -> ClassList:
    """A class list from names given as an option; each may carry a colour as in a file."""
    return parse("\n".join(names), where)


def _line(line: str) -> tuple[str, Colour | None]:
    numbers, code = _NUMBERS.fullmatch(line), _HEX.fullmatch(line)
    if numbers:
        return numbers["name"].rstrip(" ,;:"), (int(numbers[2]), int(numbers[3]), int(numbers[4]))
    if code:
        value = int(code[2], 16)
        return code["name"].rstrip(" ,;:"), (value >> 16, value >> 8 & 255, value & 255)
    return line, None


def _whole(names: list[str], colours: list[Colour | None], where: str) -> ClassList:
    if not names:
        raise DataError(f"{where} lists no class; write one name on each line.")
    if len(names) > MAX_CLASSES:
        raise DataError(f"{where} lists {len(names)} classes; at most {MAX_CLASSES} fit into 8-bit labels.")
    without = [name for name, colour in zip(names, colours, strict=True) if colour is None]
    if without and len(without) < len(names):
        raise DataError(f"{where}: class {without[0]!r} has no colour but others have; give all of them a colour, or none.")
    return ClassList(tuple(names), None if without else tuple(colours), where)


def distinct_colours(count: int) -> tuple[Colour, ...]:
    """Colours that are easy to tell apart: hues a golden angle apart, in three brightnesses."""
    made = []
    for k in range(count):
        hue, value = (k * 0.61803398875) % 1.0, (1.0, 0.72, 0.5)[k % 3]
        made.append(tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, 0.75, value)))
    return tuple(made)

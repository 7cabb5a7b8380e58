"""A user's own class list: names, optional colours and mask values, and the colours given to classes that have none."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from data_pipelines import classformats
from data_pipelines.classrows import LONGEST, Colour, Row
from data_pipelines.errors import DataError
from data_pipelines.labels import MAX_CLASSES, ClassInfo

VOID_NAMES = ("void", "ignore")  # a line of this name is no class: its value or colour becomes 255
UNCOUNTED = "__ignore__"  # labelme's first line, which has the value -1: the next line is value 0
_NO_NAME = re.compile(r"(?i)\.(?:jpe?g|png|tiff?|bmp|gif|json|xml)(?:$|[\s,;])|^<[^<>]*>")
_BIGGEST = 1 << 20  # bytes of a file


@dataclass(frozen=True)
class ClassList:
    """Lines of a class list in order. `colours` is None or one per line; `values`, the values in index masks, alike:
    without them the line number (from 0) is the value."""

    names: tuple[str, ...]
    colours: tuple[Colour, ...] | None
    where: str
    values: tuple[int, ...] | None = None

    def classes(self) -> ClassInfo:
        """The classes without void lines."""
        kept = [k for k, name in enumerate(self.names) if not is_void(name)]
        palette = tuple(self.colours[k] for k in kept) if self.colours else distinct_colours(len(kept))
        return ClassInfo(tuple(self.names[k] for k in kept), palette)

    def train_ids(self) -> list[int]:
        """Train id of every line; 255 for void lines."""
        ids, used = [], 0
        for name in self.names:
            ids.append(255 if is_void(name) else used)
            used += not is_void(name)
        return ids

    def numbers(self) -> list[int]:
        """The value of every line in index masks."""
        return list(range(len(self.names)) if self.values is None else self.values)


def is_void(name: str) -> bool:
    """Whether a name marks what to ignore."""
    return name.lower() in (*VOID_NAMES, UNCOUNTED)


def read(data: bytes, where: str, short: str | None = None) -> ClassList:
    """The class list in the bytes of a file; see `parse`. UTF-8 and, where it says so, UTF-16 and UTF-32."""
    if len(data) > _BIGGEST:
        raise DataError(f"Class list {where} has more than {_BIGGEST >> 20} MiB; give a text file with one name on each line.")
    return parse(_text(data, where), where, short)


def parse(text: str, where: str, short: str | None = None) -> ClassList:
    """A class list in any of the forms that `classformats` reads; raises DataError that names the line of `where`.

    `short` is the name that the list keeps, so that fingerprints do not depend on where a data set lies.
    """
    return collect(classformats.rows(text, where), where, short)


def from_names(names: Sequence[str], where: str = "classes") -> ClassList:
    """A class list from names given as an option; each may carry a colour or a value as in a file."""
    odd = next((name for name in names if not isinstance(name, str)), None)
    if odd is not None:
        raise DataError(f"{where}: {odd!r} is not text; give the names of the classes.")
    return collect(classformats.lines(list(enumerate(names, 1)), where), where)


def class_info(classes: ClassInfo | Sequence[str] | Mapping[str, Sequence[int]]) -> ClassInfo:
    """Classes as a user states them in Python.

    Args:
        classes: a ClassInfo; names, which then get distinct colours; or {name: (red, green, blue)}.

    Raises:
        DataError: no names, a name twice, or something else.
    """
    if isinstance(classes, ClassInfo):
        return classes
    if isinstance(classes, str) or not isinstance(classes, Iterable) or not all(isinstance(name, str) for name in classes):
        raise DataError(f"classes= is {classes!r}; give a list of names, or names with colours such as {{'road': (128, 64, 128)}}.")
    names = tuple(classes)
    if not names or len(set(names)) < len(names) or len(names) > MAX_CLASSES:
        raise DataError(f"classes= holds {len(names)} names, {len(set(names))} of them different; give 1 to {MAX_CLASSES} different ones.")
    return ClassInfo(names, tuple(tuple(c) for c in classes.values()) if isinstance(classes, Mapping) else distinct_colours(len(names)))


def collect(rows: Sequence[Row], where: str, short: str | None = None) -> ClassList:
    """The list that rows make; refuses what appears twice, out of range or given for a part of the rows only."""
    if rows and rows[0].name == UNCOUNTED and rows[0].value is None:
        rows = rows[1:]
    if not rows:
        raise DataError(f"{where} lists no class; write one name on each line.")
    if len(rows) > MAX_CLASSES:
        raise DataError(f"{where} lists {len(rows):,} classes; at most {MAX_CLASSES} fit into 8-bit labels.")
    _refuse_twice(rows, where)
    without = [row.name for row in rows if row.colour is None]
    if without and len(without) < len(rows):
        raise DataError(f"{where}: class {without[0]!r} has no colour but others have; give all of them a colour, or none.")
    unnumbered = [row.name for row in rows if row.value is None]
    if unnumbered and len(unnumbered) < len(rows):
        raise DataError(f"{where}: class {unnumbered[0]!r} has no mask value but others have; give all of them one, or none.")
    if all(is_void(row.name) for row in rows):
        raise DataError(f"{where} lists nothing but {rows[0].name!r}, which is ignored; write one class on each line.")
    return ClassList(
        tuple(row.name for row in rows),
        None if without else tuple(row.colour for row in rows),
        short or where,
        None if unnumbered else tuple(row.value for row in rows),
    )


def _refuse_twice(rows: Sequence[Row], where: str) -> None:
    names, colours, values = set(), set(), set()
    for row in rows:
        at = f"{where}, {row.place}"
        if len(row.name) > LONGEST or not row.name.isprintable():
            raise DataError(f"{at}: {row.name[:40]!r} is not a name that can be printed; write plain text.")
        if _NO_NAME.search(row.name):
            raise DataError(f"{at}: {row.name[:60]!r} looks like the name of a file or like markup; write the names of the classes.")
        if row.name == UNCOUNTED and row.value is None:
            raise DataError(f"{at}: {UNCOUNTED} stands first in labelme's lists, where it has no mask value; here write 'void'.")
        if row.colour is not None and max(row.colour) > 255:
            raise DataError(f"{at}: colour {row.colour} is outside 0-255; write red green blue.")
        if row.name in names:
            raise DataError(f"{at}: class {row.name!r} appears twice; give every class its own name.")
        if row.colour is not None and row.colour in colours:
            raise DataError(f"{at}: colour {row.colour} appears twice; give every class its own colour.")
        if row.value is not None and row.value in values:
            raise DataError(f"{at}: mask value {row.value} appears twice; give every class its own value.")
        names.add(row.name)
        colours.add(row.colour)
        values.add(row.value)


def _text(data: bytes, where: str) -> str:
    marks = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"),
             (b"\xfe\xff", "utf-16"))  # fmt: skip
    encoding = next((name for mark, name in marks if data.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in data:  # UTF-16 without its mark: every second byte of Latin text is 0
        encoding = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        raise DataError(f"Class list {where} is not UTF-8 text; save it as UTF-8.") from None
    if "\0" in text:
        raise DataError(f"Class list {where} is not a text file; write one name on each line.")
    return text


def distinct_colours(count: int) -> tuple[Colour, ...]:
    """Colours that are easy to tell apart: hues a golden angle apart, in three brightnesses."""
    made = []
    for k in range(count):
        hue, value = (k * 0.61803398875) % 1.0, (1.0, 0.72, 0.5)[k % 3]
        made.append(tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, 0.75, value)))
    return tuple(made)

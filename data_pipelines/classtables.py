"""Class lists that are tables: a first line that names the columns, such as `id,name` or `name,r,g,b` or `Pixel Value, Class`."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

from data_pipelines.classrows import Colour, Row
from data_pipelines.errors import DataError

NAME = {"name", "names", "class", "classes", "class name", "classname", "label", "labels", "label name", "category", "categories",
        "category name", "title"}  # fmt: skip
VALUE = {"id", "ids", "index", "idx", "value", "values", "pixel value", "pixel", "class id", "classid", "class index", "class value",
         "label id", "labelid", "category id", "grey", "gray", "grey value", "gray value", "mask value", "train id", "trainid", "code",
         "number", "no", "nr"}  # fmt: skip
CHANNELS = {"r": 0, "red": 0, "g": 1, "green": 1, "b": 2, "blue": 2}
COLOUR = {"colour", "color", "rgb", "hex", "color rgb", "colour rgb", "hex color", "hex colour", "palette", "rgb color", "rgb colour"}


def table(tidy: Sequence[tuple[str, str, str]], where: str) -> list[Row] | None:
    """Rows of a table given as (place, line without double spaces, line as it stands); None if the first line is no header."""
    _, head, raw = tidy[0]
    mark = next((mark for mark in "\t;,|" if mark in raw), None)
    if _word(head) in NAME and mark is None:
        rest = [Row(place, line.strip(" \"'")) for place, line, _ in tidy[1:]]
        numbered = next((row for row in rest if re.match(r"-?\d+[\s,;:]", row.name) or re.search(r"[\s,;:]\d+$", row.name)), None)
        if numbered is not None:
            raise DataError(f"{where}: the header {head!r} names one column, {numbered.place} has more; name them, say `value,name`.")
        return rest
    cells = [_word(cell) for cell in _cells(raw if mark else head, mark)]
    others = set(cells) & (VALUE | COLOUR | set(CHANNELS))
    if not (set(cells) & NAME and (others or (mark and len(cells) > 1 and set(cells) <= NAME))):
        return None
    body = [(place, _row_cells(raw if mark else line, mark, cells, f"{where}, {place}")) for place, line, raw in tidy[1:]]
    name, value = _columns(cells, body, where)
    return [_row(place, row, cells, name, value, where) for place, row in body]


def _word(cell: str) -> str:
    return re.sub(r"[\s_-]+", " ", cell.strip(" \t\"'")).lower()


def _cells(line: str, mark: str | None) -> list[str]:
    if mark is None:
        return line.split()
    return [cell.strip() for cell in next(csv.reader([line], delimiter=mark, skipinitialspace=True))]


def _row_cells(line: str, mark: str | None, cells: list[str], at: str) -> list[str]:
    found = _cells(line, mark)
    extra = len(found) - len(cells)
    if mark is None and extra > 0 and cells[-1] in NAME:  # a name of several words
        found = line.split(maxsplit=len(cells) - 1)
    elif mark is None and extra > 0 and cells[0] in NAME:
        found = line.rsplit(maxsplit=len(cells) - 1)
    while len(found) > len(cells) and not found[-1]:
        found.pop()
    if len(found) != len(cells):
        raise DataError(f"{at} has {len(found)} columns, the header has {len(cells)}; write a value for every column.")
    return found


def _columns(cells: list[str], body: list[tuple[str, list[str]]], where: str) -> tuple[int, int | None]:
    """Where the names and the values stand; two candidates are refused."""
    names, values = [], []
    for k, word in enumerate(cells):
        whole = bool(body) and all(re.fullmatch(r"-?\d{1,10}", row[k]) for _, row in body)
        if word in NAME:
            (values if whole else names).append(k)
        elif word in VALUE:
            values.append(k)
    for found, what in ((names, "names"), (values, "mask values")):
        if len(found) > 1:
            listed = " and ".join(cells[k] for k in found)
            raise DataError(f"{where} has two columns that could be the {what} ({listed}); keep the one that is meant.")
    if not names:
        raise DataError(f"{where} has no column of names; write `value,name` on each line.")
    return names[0], values[0] if values else None


def _row(place: str, row: list[str], cells: list[str], name: int, value: int | None, where: str) -> Row:
    colour: list[int | None] = [None, None, None]
    for cell, word in zip(row, cells, strict=True):
        if word in CHANNELS:
            colour[CHANNELS[word]] = _number(cell, where, place)
        elif word in COLOUR:
            colour = list(_colour(cell, where, place))
    if None in colour and colour != [None, None, None]:
        raise DataError(f"{where}, {place}: the colour has not all of red, green and blue; name the three columns r, g and b.")
    if not row[name]:
        raise DataError(f"{where}, {place} has no name; give every class one.")
    return Row(place, row[name].strip("\"'"), None if None in colour else tuple(colour),
               None if value is None else _number(row[value], where, place))  # fmt: skip


def _number(cell: str, where: str, place: str) -> int:
    if not re.fullmatch(r"-?\d{1,10}", cell):
        raise DataError(f"{where}, {place}: {cell!r} is not a whole number.")
    return int(cell)


def _colour(cell: str, where: str, place: str) -> Colour:
    code = re.fullmatch(r"#?([0-9a-fA-F]{6})", cell)
    if code and not cell.isdigit():
        return tuple(bytes.fromhex(code[1]))
    numbers = re.findall(r"\d{1,4}", cell)
    if len(numbers) != 3:
        raise DataError(f"{where}, {place}: {cell!r} is not a colour; write red green blue or #rrggbb.")
    return tuple(map(int, numbers))

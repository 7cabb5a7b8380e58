"""The forms in which class lists are written -> rows of (name, colour, mask value); a form that could be read two ways is refused.

* lines: `road`, `road 128 64 128`, `road #804080`, `128 64 128 road` (label_colors.txt), `7: road` or `road, 7` (its value),
  `7 road 128 64 128`;
* tables with a header line: `id,name`, `name,r,g,b`, Roboflow's `Pixel Value, Class`, tabs and semicolons too (`classtables.py`);
* CVAT's labelmap.txt: `road:128,64,128::`;
* YAML and JSON: a list of names, `names: ...`, names by value, values or colours by name, or one mapping for each class
  (`classtrees.py`).
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence
from typing import Any

from data_pipelines import classtables, classtrees
from data_pipelines.classrows import LONGEST, Colour, Row
from data_pipelines.errors import DataError

MOST_LINES = 10_000  # more than any list has; the rest need not be looked at
_DEEP = re.compile(r"(?:[\[{]\s*){64}")
_YAML = re.compile(r"""(?m)^(?:%YAML|---|["']?(?:names|classes|labels|categories)["']?\s{0,9}:\s{0,9}(?:$|[\[{#&*!]))""")
_CVAT = re.compile(r"(.+):(\d+),(\d+),(\d+):([^:]*):([^:]*)")
_FIRST = re.compile(r"\(?(-?\d{1,10})(?:[.)]\s|\s?[:,;|=\s]\s?)(?:[-=]?>?\s)?")
_LAST = re.compile(r"(?:\s[-=]?>?)?\s?[\[(:,;|=\s]\s?(-?\d{1,10})\)?$")
_HEX_FIRST = re.compile(r"#([0-9a-fA-F]{6})\s?[:,;|=\s]\s?(?=\S)")
_HEX_LAST = re.compile(r"\s?[(:,;|=\s]\s?#([0-9a-fA-F]{6})\)?$")
_EDGE = " ,;:|=\t"


def rows(text: str, where: str) -> list[Row]:
    """The rows of a class list; DataError names `where` and the line."""
    text = textwrap.dedent(text.lstrip("\ufeff").strip("\r\n").rstrip())
    if (count := text.count("\n") + 1) > MOST_LINES:
        raise DataError(f"{where} has {count:,} lines, more than any mask has classes; write one name on each line.")
    if text[:1] in ("{", "["):
        return classtrees.rows(_tree(text, where), where)
    kept = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if line and (not line.startswith("#") or _HEX_FIRST.match(line)):
            kept.append((number, line))
    if _YAML.search(text) or (kept and all(line.startswith("- ") for _, line in kept)):
        return classtrees.rows(_tree(text, where), where)
    return lines(kept, where)


def lines(kept: Sequence[tuple[int, str]], where: str) -> list[Row]:
    """Rows of numbered lines of text, none of them blank or a remark."""
    tidy = [(f"line {number}", " ".join(line.split()), line) for number, line in kept]
    for place, line, _ in tidy:
        if len(line) > LONGEST:
            raise DataError(f"{where}, {place} has {len(line):,} characters; write one name on each line.")
    if not tidy:
        return []
    if all(_CVAT.fullmatch(line) for _, line, _ in tidy):
        return [_cvat(place, line) for place, line, _ in tidy]
    table = classtables.table(tidy, where)
    return table if table is not None else _free(tidy, where)


def _tree(text: str, where: str) -> Any:
    if _DEEP.search(text):
        raise DataError(f"{where} is nested too deeply for a class list; write one name on each line instead.")
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise DataError(f"{where}: {error}") from None
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML without tags, in which a key that stands twice is refused."""

        def construct_mapping(self, node, deep=False):
            return _once([(self.construct_object(k, True), self.construct_object(v, True)) for k, v in node.value])

    Loader.add_constructor("tag:yaml.org,2002:map", lambda loader, node: loader.construct_mapping(node))
    try:
        return yaml.load(text, Loader)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        at = getattr(error, "problem_mark", None)
        line = f", line {at.line + 1}" if at else ""
        raise DataError(f"{where}{line} is not valid YAML or JSON; write one name on each line instead.") from None


def _once(pairs: list[tuple[Any, Any]]) -> dict:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(key for k, (key, _) in enumerate(pairs) if key in dict(pairs[:k]))
        raise DataError(f"{twice!r} appears twice; give every class its own name and value.")
    return made


def _cvat(place: str, line: str) -> Row:
    name, red, green, blue, _, _ = _CVAT.fullmatch(line).groups()
    return Row(place, name, (int(red), int(green), int(blue)))


def _free(tidy: Sequence[tuple[str, str, str]], where: str) -> list[Row]:
    """Lines without a header: what all of them have in common decides what the numbers mean."""
    parts = [(place, *_split(line)) for place, line, _ in tidy]
    _refuse_bare(parts, where)
    if len(parts) == 1 and re.search(r"[^\s\d,;][,;]\s?[^\s\d,;#(]", parts[0][2]):
        raise DataError(f"{where} holds {parts[0][2]!r} on a single line; write one name on each line.")
    before = {len(first) for _, first, *_ in parts}
    if len(before) > 1 or not before <= {0, 1, 3, 4}:
        if not parts[0][1] and all(part[1] for part in parts[1:]) and re.search(r"[,;|\s]", parts[0][5]):
            raise DataError(f"{where}, {parts[0][0]} ({parts[0][5]!r}) is a header that is not known; write `value,name` there.")
        place, first, _, _, _, whole = max(parts, key=lambda part: len(part[1]))
        some = "a number" if len(first) == 1 else f"{len(first)} numbers"
        raise DataError(
            f'{where}, {place} has {some} before the name ({whole!r}), other lines have not; write "value name" or '
            '"red green blue name" on all lines, or put names that begin with a number in quotes.'
        )
    after = _numbers_after(parts, before == {0}, where)
    return [_row(part, after, where) for part in parts]


def _split(line: str) -> tuple[list[int], str, list[int], Colour | None, str]:
    """(numbers before the name, the name, numbers after it, hex colour, name with those numbers) of a line without double spaces."""
    first, last, code = [], [], None
    while len(first) < 5 and (hit := _FIRST.match(line)):
        first.append(int(hit[1]))
        line = line[hit.end() :]
    for pattern in (_HEX_FIRST, _HEX_LAST):
        if code is None and (hit := pattern.search(line)):
            code = _hex(hit[1])
            line = (line[: hit.start()] + line[hit.end() :]) if hit.start() else line[hit.end() :]
    whole = line.strip(_EDGE)
    line = line.rstrip(_EDGE + "]")
    while len(last) < 5 and (hit := _LAST.search(line)):
        last.insert(0, int(hit[1]))
        line = line[: hit.start()]
    return first, _unquoted(line.strip(_EDGE)), last, code, _unquoted(whole)


def _unquoted(name: str) -> str:
    return name[1:-1] if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'" else name


def _hex(code: str) -> Colour:
    value = int(code, 16)
    return value >> 16, value >> 8 & 255, value & 255


def _refuse_bare(parts: Sequence[tuple], where: str) -> None:
    """Lines of numbers alone."""
    for place, first, name, last, *_ in parts:
        if not name:
            raise DataError(f"{where}, {place} has no name; write `name` or `name red green blue` on each line.")
        if name.lstrip("-").isdigit() and (first or last):
            raise DataError(f"{where}, {place} holds numbers and no name; write `name red green blue` on each line.")
    bare = [name for _, _, name, *_ in parts]
    if all(name.isdigit() for name in bare) and bare != [str(k) for k in range(len(bare))]:
        raise DataError(f"{where} lists numbers and no names; write `value: name` on each line.")


def _numbers_after(parts: Sequence[tuple], alone: bool, where: str) -> int:
    """How many of the numbers at the end of the lines belong to them and not to the names: 0, 1 (a value) or 3 (a colour)."""
    counts = [len(part[3]) for part in parts if part[4] is None]
    if not counts or max(counts) == 0:
        return 0
    stems = {name for _, _, name, *_ in parts}
    if min(counts) == max(counts) == 1:
        return 1 if alone and len(stems) == len(parts) and len(parts) > 1 else 0  # "class 1", "class 2" are names
    if max(counts) < 3:
        if min(counts) == 2:
            raise DataError(f"{where}, {parts[0][0]} has two numbers after the name; write `name red green blue` or `value: name`.")
        return 0
    if min(counts) > 3 and len(stems) == len(parts) > 1:
        raise DataError(
            f"{where}, {parts[0][0]} has {counts[0]} numbers after the name; write red green blue, or a header line that names the "
            "columns."
        )
    return 3


def _row(part: tuple, count: int, where: str) -> Row:
    """A row of `_split`'s parts, of which the last `count` numbers do not belong to the name."""
    place, first, name, last, colour, whole = part
    after = last[-count:] if count and len(last) >= count else []
    if not after and colour is None:
        name = whole
    elif len(last) > len(after):
        name = " ".join([name, *map(str, last[: len(last) - len(after)])])
    if len(after) == 3:
        colour = tuple(after)
    if len(first) >= 3:
        if colour is not None:
            raise DataError(f"{where}, {place} has a colour before the name and one after it; give one.")
        colour = tuple(first[-3:])
    value = first[0] if len(first) in (1, 4) else after[0] if len(after) == 1 else None
    return Row(place, name, colour, value)

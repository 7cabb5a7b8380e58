"""The options `values=` and `ignore=` of folder data: which values in index masks mean which class.

    values=[0, 128, 200]                                      one value for each class of the list, in its order
    values={"road": [7, 8], "car": 26, "ignore": [0, 255]}    values by class; several may mean one class
    values={"car": 26, "other": "rest"}                       "rest": every value that is not named
    values="7+8:road/26:car/0+255:ignore"                     the same as text, for a command line; `rest:ignore`, `1-6:road`

Entries of the text are parted by "/", "," or ";" and begin with their numbers, so that names may hold these signs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_pipelines.classlist import ClassList, collect, is_void
from data_pipelines.classrows import Row
from data_pipelines.errors import DataError
from data_pipelines.labels import VOID, ClassInfo, IdMap, ranges
from data_pipelines.spelling import did_you_mean

REST = "rest"
_GROUP = r"-?\d{1,10}(?:[+-]\d{1,10})*"
_NAMED = re.compile(rf"(?:^|[,;/])\s*(?P<numbers>{_GROUP}|{REST})\s*:")
_PLAIN = re.compile(rf"{_GROUP}(?:[,;/]{_GROUP})*")
_WIDEST = 1 << 16
_FORM = "write values='7+8:road/26:car/0+255:ignore', a mapping of class to values, or one value for each class"

Group = tuple[int, ...]  # the values that mean one class; () = the rest


@dataclass(frozen=True)
class Values:
    """`groups` are (class name, its values), or (None, values) where the order of the class list names them."""

    groups: tuple[tuple[str | None, Group], ...]

    @property
    def named(self) -> bool:
        return self.groups[0][0] is not None


def understand(values: Any) -> Values | None:
    """The option `values` in any of its forms; DataError for what is none of them."""
    if values is None:
        return None
    if isinstance(values, str):
        made = _from_text(values)
    elif isinstance(values, Mapping):
        made = [(str(name), _group(of, f"values of {name!r}")) for name, of in values.items()]
    elif isinstance(values, Sequence):
        made = [(None, _group(of, f"values[{k}]")) for k, of in enumerate(values)]
    else:
        raise DataError(f"values={values!r} is not understood; {_FORM}.")
    if not made:
        raise DataError(f"values={values!r} names no value; {_FORM}.")
    _refuse_twice(made)
    return Values(tuple(made))


def ignored(ignore: Any) -> Group | None:
    """The option `ignore` as values: None, a number, several, or text such as `0+255`."""
    if ignore is None:
        return None
    group = _numbers(ignore) if isinstance(ignore, str) and re.fullmatch(_GROUP, ignore) else _group(ignore, "ignore")
    if not group:
        raise DataError(f"ignore={ignore!r} must be a number or several, say ignore=0.")
    return group


def plain(ignore: Any, values: Any) -> dict[str, Any]:
    """The two options as JSON values that are equal where they mean the same."""
    void, made = ignored(ignore), understand(values)
    groups = [[list(group)] if name is None else [name, list(group)] for name, group in made.groups] if made else None
    if groups and all(len(group) == 1 and len(group[0]) == 1 for group in groups):
        groups = [group[0][0] for group in groups]  # one number for each class, as they are mostly given
    return {"ignore": None if void is None else void[0] if len(void) == 1 else list(void), "values": groups}


def index_map(listed: ClassList | None, values: Values | None, void: Group | None) -> tuple[IdMap, ClassInfo, ClassList]:
    """(mask value -> train id, the classes, the list with their names) of index masks.

    `listed` None needs `values` that name the classes. `void` are the values of `ignore`; None = 255 unless it means a class.
    """
    listed = listed or _list_of(values)
    given = [(number,) for number in listed.numbers()] if values is None else _in_order(listed, values)
    ids, rest, unlisted = {}, None, dict(values.groups) if values is not None and values.named else {}
    for name, group, train in zip(listed.names, given, listed.train_ids(), strict=True):
        rest = train if group == () else rest
        for number in group or ():
            if void is not None and number in void and train != VOID:
                raise DataError(_clash(number, name, listed, values))
            ids[number] = train
    for name, group in unlisted.items():
        if is_void(name) and name not in listed.names:
            rest = VOID if group == () else rest
            ids |= dict.fromkeys(group, VOID)
    for number in (VOID,) if void is None else void:
        ids.setdefault(number, VOID)
    title = f"the class list of {listed.where}" + ("" if rest is None else f", others {'ignored' if rest == VOID else rest}")
    return IdMap(title, ids, rest), listed.classes(), listed


def _clash(number: int, name: str, listed: ClassList, values: Values | None) -> str:
    count = len(listed.names)
    how = f"values=[{', '.join(map(str, range(1, count + 1)))}]" if count < 10 else f"values='1/2/.../{count}'"
    fix = f"say which value each class has, {how} if they count from 1, or call the line of what is ignored 'void'"
    return f"ignore={number} is also the value of class {name!r}; " + ("give it one meaning." if values is not None else f"{fix}.")


def _list_of(values: Values) -> ClassList:
    """A class list of the names that `values` gives."""
    if not values.named:
        raise DataError("values= gives numbers but no class list names the classes; write names.txt or values='0:sky/128:road'.")
    names = [name for name, _ in values.groups if not is_void(name)]
    return collect([Row(f"entry {k}", name) for k, name in enumerate(names, 1)], "values")


def _in_order(listed: ClassList, values: Values) -> list[Group | None]:
    """The values of every line of a class list; None for a void line that has none."""
    if not values.named:
        groups = [group for _, group in values.groups]
        if len(groups) != len(listed.names):
            raise DataError(f"values= gives {len(groups)} numbers for {len(listed.names)} classes; give one a class.")
        return groups
    given = dict(values.groups)
    for name in given:
        if name not in listed.names and not is_void(name):
            hint = did_you_mean(name, listed.names) or f" It lists {', '.join(listed.names[:10])}."
            raise DataError(f"values= names {name!r}, which {listed.where} does not list.{hint}")
    missing = next((name for name in listed.names if name not in given and not is_void(name)), None)
    if missing is not None:
        raise DataError(f"values= gives no value for class {missing!r} of {listed.where}; give every class one, or take it out.")
    return [given.get(name) for name in listed.names]


def _from_text(text: str) -> list[tuple[str | None, Group]]:
    plain = text.strip().strip("[]()")
    if _PLAIN.fullmatch(plain.replace(" ", "")):
        return [(None, _numbers(part)) for part in re.split(r"[,;/]", plain.replace(" ", ""))]
    starts = list(_NAMED.finditer(text))
    if not starts or starts[0].start() != 0:
        raise DataError(f"values={text!r} is not understood; {_FORM}.")
    made: dict[str, Group] = {}
    for k, hit in enumerate(starts):
        name = text[hit.end() : starts[k + 1].start() if k + 1 < len(starts) else len(text)].strip()
        group = () if hit["numbers"] == REST else _numbers(hit["numbers"])
        if not name:
            raise DataError(f"values={text!r} has no name after {hit['numbers']}:; {_FORM}.")
        if name in made and () in (group, made[name]):
            raise DataError(f"values={text!r} gives {name!r} the rest and other values too; the rest alone holds them.")
        made[name] = made.get(name, ()) + group
    return list(made.items())


def _numbers(text: str) -> Group:
    """`7+8` or `1-6` as numbers."""
    out: list[int] = []
    for part in text.split("+"):
        low, high = re.fullmatch(r"(-?\d+)(?:-(\d+))?", part).groups() if re.fullmatch(r"-?\d+(?:-\d+)?", part) else (None, None)
        if low is None:
            raise DataError(f"values: {text!r} is not understood; {_FORM}.")
        last = int(low) if high is None else int(high)
        if not int(low) <= last < int(low) + _WIDEST:
            raise DataError(f"values: {part!r} is not a range from a lower to a higher number.")
        out += range(int(low), last + 1)
    return tuple(out)


def _group(of: Any, what: str) -> Group:
    if of == REST and what != "ignore":
        return ()
    numbers = list(of) if isinstance(of, (Sequence, range)) and not isinstance(of, str) else [of]
    if not numbers or any(isinstance(n, bool) or not hasattr(n, "__index__") for n in numbers):
        form = "say ignore=0 or ignore=0+255" if what == "ignore" else _FORM
        raise DataError(f"{what}: {of!r} is neither a whole number nor several; {form}.")
    return tuple(n.__index__() for n in numbers)


def _refuse_twice(groups: Sequence[tuple[str | None, Group]]) -> None:
    if [group for _, group in groups].count(()) > 1:
        raise DataError("values= gives the rest to two classes; give it to one.")
    seen: dict[int, Any] = {}
    for k, (name, group) in enumerate(groups):
        who = f"class {k}" if name is None else repr(name)
        for number in group:
            if number in seen:
                numbers = ranges(sorted(n for _, g in groups for n in g))
                raise DataError(f"values= must be different numbers: {number} is there for {seen[number]} and {who} ({numbers}).")
            seen[number] = who

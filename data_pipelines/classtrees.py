"""Class lists as YAML or JSON values: lists of names, names by value, values or colours by name, one mapping for each class."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

from data_pipelines.classrows import Colour, Row
from data_pipelines.errors import DataError

LISTS = ("names", "classes", "labels", "categories")
NAME, VALUE = ("name", "title", "label", "class", "readable"), ("id", "value", "index", "class_id", "trainId", "train_id")
COLOUR = ("color", "colour", "rgb", "palette")
_FORM = "write a list of names, or `names:` with one name for each mask value"


def rows(tree: Any, where: str) -> list[Row]:
    """The rows of a class list that was written as YAML or JSON; DataError names the entry that is not understood."""
    if isinstance(tree, Mapping):
        found = [key for key in LISTS if isinstance(tree.get(key), (Mapping, list))]
        if len(found) > 1:
            raise DataError(f"{where} has {found[0]!r} and {found[1]!r}; keep the one that lists the classes.")
        tree = tree[found[0]] if found else tree
    if isinstance(tree, list):
        return [_entry(f"entry {k}", None, entry, where) for k, entry in enumerate(tree, 1)]
    if isinstance(tree, Mapping):
        return [_entry(f"entry {k}", key, entry, where) for k, (key, entry) in enumerate(tree.items(), 1)]
    raise DataError(f"{where} holds {type(tree).__name__} where classes are expected; {_FORM}.")


def _entry(place: str, key: Any, entry: Any, where: str) -> Row:
    at = f"{where}, {place}"
    whole = _whole(key)
    if isinstance(entry, Mapping):
        name = _one_of(entry, NAME, at)
        given = _one_of(entry, VALUE, at)
        value = whole if given is None else _whole(given)
        if given is not None and value is None:
            raise DataError(f"{at}: {_brief(given)} is not a mask value; write a whole number.")
        colour = _one_of(entry, COLOUR, at)
        name = key if name is None and whole is None else name
        return Row(place, _name(name, at), None if colour is None else _colour(colour, at), value)
    if key is None:
        return Row(place, _name(entry, at))
    if whole is not None:
        return Row(place, _name(entry, at), None, whole)
    if _whole(entry) is not None:
        return Row(place, _name(key, at), None, _whole(entry))
    return Row(place, _name(key, at), _colour(entry, at))


def _one_of(entry: Mapping, keys: Iterable[str], at: str) -> Any:
    found = [key for key in keys if entry.get(key) is not None]
    same = all(isinstance(entry[key], (int, str)) and entry[key] == entry[found[0]] for key in found)
    if len(found) > 1 and not same and keys is not NAME:
        raise DataError(f"{at} has {found[0]!r} and {found[1]!r}; keep the one that the masks hold.")
    return entry[found[0]] if found else None


def _whole(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?\d{1,10}", value) else None


def _name(name: Any, at: str) -> str:
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"{at} has {_brief(name)} for a name; write text, in quotes where YAML would take it for something else.")
    return name.strip()


def _colour(value: Any, at: str) -> Colour:
    if isinstance(value, str):
        code = re.fullmatch(r"#?([0-9a-fA-F]{6})", value.strip())
        value = tuple(bytes.fromhex(code[1])) if code else [_whole(part) for part in re.split(r"[\s,;]+", value.strip("()[] "))]
    if isinstance(value, (list, tuple)) and len(value) == 3 and all(_whole(part) is not None and _whole(part) >= 0 for part in value):
        return tuple(_whole(part) for part in value)
    raise DataError(f"{at}: {_brief(value)} is not a colour; write three numbers, red, green and blue, or '#rrggbb'.")


def _brief(value: Any) -> str:
    """A value in short: aliases can make a small YAML file mean a list of 10^9 entries."""
    return reprlib.repr(value)

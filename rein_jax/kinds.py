"""What a value must be, in words and as a test: for configs, and for JSON files that may come from anywhere."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from data_pipelines.files import shown
from rein_jax.errors import UserError, read_json


class Kind(NamedTuple):
    """What a value must be, in words, and whether one is."""

    words: str
    fits: Callable[[Any], bool]


def whole(least: int, most: float = sys.float_info.max) -> Kind:
    """A whole number from `least` to `most`."""
    upper = f" and at most {most}" if most < sys.float_info.max else ""
    fits = lambda v: isinstance(v, int) and not isinstance(v, bool) and least <= v <= most
    return Kind(f"a whole number of at least {least}{upper}", fits)


def number(least: float = -sys.float_info.max, most: float = sys.float_info.max) -> Kind:
    """A finite number from `least` to `most`."""
    limits = [f"at least {least:g}"] * (least > -sys.float_info.max) + [f"at most {most:g}"] * (most < sys.float_info.max)
    return Kind("a number" + (" of " + " and ".join(limits) if limits else ""), lambda v: is_number(v) and least <= v <= most)


def is_number(value: Any) -> bool:
    """Whether a value is a number that a float can hold, neither NaN nor infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def several(of: Kind, count: int | None = None) -> Kind:
    """A list of values of one kind, of `count` of them if given."""
    fits = lambda v: isinstance(v, list | tuple) and count in (None, len(v)) and all(map(of.fits, v))
    return Kind(f"a list of {'' if count is None else f'{count} '}values, each {of.words}", fits)


def either(*kinds: Kind) -> Kind:
    """A value of one of the kinds."""
    return Kind(" or ".join(kind.words for kind in kinds), lambda v: any(kind.fits(v) for kind in kinds))


TEXT = Kind("a text", lambda v: isinstance(v, str))
FLAG = Kind("true or false", lambda v: isinstance(v, bool))
NOTHING = Kind("None", lambda v: v is None)
NULL = Kind("null", lambda v: v is None)
OBJECT = Kind("an object", lambda v: isinstance(v, Mapping))
COLOUR = several(whole(0, 255), 3)

# What a JSON value must be: a Kind, [shape] for a list, or {key: shape} for an object, where "key?" may be missing, "*" stands for all
# keys that are not named, and keys that the shape does not know are passed over.
Shape = Kind | list | Mapping

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


def read_checked(path: Path, shape: Shape, fix: str) -> dict[str, Any]:
    """The object in a JSON file that may come from anywhere, every value of its shape and every text printable.

    fix: what the user can do, "run X again". Raises UserError that names the file and the first key that does not fit, and
    FileNotFoundError.
    """
    try:
        data = printable(read_json(path, fix))
    except RecursionError:
        raise UserError(f"{path} is damaged (it is nested too deeply); {fix}.") from None
    check(path, data, shape, fix)
    return data


def _short(at: str) -> str:
    """An address of a value, whose keys may be of any length."""
    return at if len(at) < 200 else f"{at[:100]}...{at[-97:]}"


def check(file: str | Path, value: Any, shape: Shape, fix: str, at: str = "") -> None:
    """A UserError that names the file and the key of the first part of a value that is not of its shape."""
    if isinstance(shape, Kind):
        if not shape.fits(value):
            raise UserError(f"{file}: {_short(at)} is {_SHORT.repr(value)}, but must be {shape.words}; {fix}.")
    elif isinstance(shape, list):
        check(file, value, Kind("a list", lambda v: isinstance(v, list)), fix, at)
        of = shape[0]
        for i, item in enumerate(value):
            if not isinstance(of, Kind) or not of.fits(item):
                check(file, item, of, fix, f"{at}[{i}]")
    else:
        check(file, value, OBJECT, fix, at or "the whole")
        _check_keys(file, value, shape, fix, at)


def _check_keys(file: str | Path, value: Mapping[str, Any], shape: Mapping[str, Shape], fix: str, at: str) -> None:
    parts = {key.removesuffix("?"): part for key, part in shape.items()}
    place = lambda key: f"{at}.{key}" if at else key
    for key in shape:
        if key not in value and key != "*" and not key.endswith("?"):
            raise UserError(f"{file} has no {_short(place(key))}; {fix}.")
    for key, item in value.items():
        part = parts.get(key, parts.get("*"))
        if part is not None:
            check(file, item, part, fix, place(key))


def printable(value: Any) -> Any:
    """A JSON value whose texts can be printed and written: see `data_pipelines.files.shown`; half characters become U+FFFD."""
    if isinstance(value, Mapping):
        return {printable(key): printable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [item if isinstance(item, int | float) else printable(item) for item in value]
    if isinstance(value, str) and not value.isprintable():
        return shown(value.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return value

"""The arguments of a config file, `configs/x.py:key=value,...`, and the name that they give a run."""

from __future__ import annotations

import re

from rein_jax.errors import UserError
from rein_jax.registry import unknown


def parse(arg: str | None, **known: str) -> dict[str, str]:
    r"""Arguments after the colon of `--config=file.py:key=value,...`, over their defaults; `\,` is a comma inside a value.

    Raises:
        UserError: an unknown key, or a piece between commas that is no key=value.
    """
    out, last = dict(known), ""
    for item in filter(None, re.split(r"(?<!\\),", arg or "")):
        key, sep, value = item.replace(r"\,", ",").partition("=")
        if key not in known:
            raise _stray(item, key, last, known)
        if not sep:
            raise UserError(f"The config argument {item!r} needs a value: {key}=...")
        out[key], last = value, item
    return out


def escaped(value: str) -> str:
    """A value as it is written for `parse`."""
    return value.replace(",", r"\,")


def _stray(item: str, key: str, last: str, known: dict[str, str]) -> UserError:
    """The error for a piece that does not begin with a known key: perhaps the value before it held a comma."""
    if not last:
        return unknown(key, known, "config argument")
    comma = rf"Was the comma part of a value? Write \, for it, in quotes on a command line: '{last}\,{item}'."
    if "=" not in item:
        return UserError(f"The config argument {item!r} is not KEY=VALUE. {comma}")
    return UserError(f"{unknown(key, known, 'config argument')} {comma}")


def title(family: str, args: dict[str, str], defaults: dict[str, str], *always: str) -> str:
    """A config's name: the family, the values of the arguments in `always`, and every other argument that is not at its default."""
    parts = [args[key] for key in always]
    parts += [value if key in ("head", "augment") else f"{key}={value}" for key, value in args.items()
              if key not in always and value != defaults[key]]
    return "-".join([family, *parts])

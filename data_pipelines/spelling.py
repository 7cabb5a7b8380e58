"""Misspelt names: the one that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(name: object, known: Iterable[str]) -> str | None:
    """The known name that is most like this one, or None where none is near."""
    return next(iter(difflib.get_close_matches(str(name), list(known), n=1)), None)


def did_you_mean(name: object, known: Iterable[str], shown: str = "{!r}") -> str:
    """The part of an error message that suggests the closest name, with a space in front; "" where none is near.

    shown: a format for that name, such as "train.{}".
    """
    near = closest(name, known)
    return "" if near is None else f" Did you mean {shown.format(near)}?"

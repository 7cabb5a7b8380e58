"""One line of a class list."""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[int, int, int]
LONGEST = 1000  # characters of a line


@dataclass(frozen=True)
class Row:
    """One line of a class list: its place for messages, the name, and what else stands there."""

    place: str
    name: str
    colour: Colour | None = None
    value: int | None = None

"""The text of a compiled program (HLO), taken apart: its computations, their instructions, and how often a loop runs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

_HEADER = re.compile(r"^(ENTRY\s+)?%?([\w.\-]+)\s*\(.*\)\s*->.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT\s+)?%?([\w.\-]+)\s*=\s*(.*?)\s([a-z][\w\-]*)\(")
_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_WIDTH = {"pred": 1, "bf16": 2, "f16": 2, "f32": 4, "f64": 8, "c64": 8, "c128": 16}
_CALLED = re.compile(r"\b(?:body|calls|to_apply|branch_computations|called_computations|true_computation|false_computation)="
                     r"(\{[^}]*\}|%?[\w.\-]+)")
_CONDITION = re.compile(r"\bcondition=%?([\w.\-]+)")
_TURNS = re.compile(r'known_trip_count"?\s*[:=]\s*\{"?n"?\s*[:=]\s*"?(\d+)')
_CONSTANT = re.compile(r"= [su]\d+\[\]\S* constant\((\d+)\)")


@dataclass(frozen=True)
class Instruction:
    """One line: its name, the shape (or tuple of shapes) of its result, what it does, and the line itself."""

    name: str
    shape: str
    kind: str
    line: str

    @property
    def called(self) -> list[str]:
        """Computations that it runs; not the condition of a loop."""
        return [name for names in _CALLED.findall(self.line) for name in re.findall(r"[\w.\-]+", names)]


@dataclass(frozen=True)
class Program:
    """Instructions by computation, and the name of the computation that runs first."""

    parts: dict[str, list[Instruction]]
    entry: str

    def turns(self, loop: Instruction) -> int | None:
        """How often the body of a `while` runs: as the compiler knows, else the constant that its condition compares with; None where it
        ends on data, so where there is no constant or where an array of answers is reduced to one."""
        known, condition = _TURNS.search(loop.line), _CONDITION.search(loop.line)
        if known or not condition:
            return int(known[1]) if known else None
        tested = list(self.within(condition[1]))
        constants = [int(value) for one in tested for value in _CONSTANT.findall(one.line) if int(value)]
        return None if any(one.kind.startswith(("reduce", "all-reduce")) for one in tested) else max(constants, default=None)

    def within(self, name: str) -> Iterator[Instruction]:
        """The instructions of a computation and of all that it runs."""
        for instruction in self.parts.get(name, []):
            yield instruction
            for callee in instruction.called:
                yield from self.within(callee)


def read(text: str) -> Program:
    """A program from `compiled.as_text()`."""
    parts: dict[str, list[Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            current = parts.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif current is not None and (found := _INSTRUCTION.match(line)):
            current.append(Instruction(found[1], found[2], found[3], line))
    return Program(parts, entry)


def shapes(shape: str) -> list[tuple[str, tuple[int, ...]]]:
    """(kind of number, sides) of a shape or of each of a tuple of shapes."""
    return [(kind, tuple(int(side) for side in sides.split(",") if side)) for kind, sides in _SHAPE.findall(shape)]


def size(shape: str) -> int:
    """Bytes of a shape or tuple of shapes."""
    total = 0
    for kind, sides in shapes(shape):
        bits = re.search(r"\d+", kind)
        width = _WIDTH.get(kind) or (int(bits[0]) / 8 if bits else 0)
        total += int(math.prod(sides) * width)
    return total

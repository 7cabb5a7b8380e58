"""The communication in a compiled program: which collectives, how often, how many bytes; read from the program's text (HLO)."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_WIDTH = {"pred": 1, "bf16": 2, "f16": 2, "f32": 4, "f64": 8, "c64": 8, "c128": 16}
_HEADER = re.compile(r"^(ENTRY\s+)?%?([\w.\-]+)\s*\(.*\)\s*->.*\{\s*$")
_OP = re.compile(r"^\s*(?:ROOT\s+)?%?([\w.\-]+)\s*=\s*(.*?)\s([a-z][\w\-]*)\(")
_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(body|calls|to_apply|branch_computations|called_computations|true_computation|false_computation)="
                     r"(\{[^}]*\}|%?[\w.\-]+)")
_CONDITION = re.compile(r"\bcondition=%?([\w.\-]+)")
_TRIPS = re.compile(r'known_trip_count"?\s*[:=]\s*\{"?n"?\s*[:=]\s*"?(\d+)')
_CONSTANT = re.compile(r"constant\((\d+)\)")


@dataclass
class _Computation:
    """A named part of the program: its collectives, and the parts it calls with the number of times."""

    own: list[tuple[str, int]] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)  # (computation, condition of its loop or "")
    trips: dict[str, int] = field(default_factory=dict)
    constants: list[int] = field(default_factory=list)


def collectives(text: str) -> dict[str, dict[str, int]]:
    """{kind: {"count", "bytes"}} of one run of the program on one device.

    Bytes are those of the whole value concerned: the result of an all-reduce or all-gather, the operand of a reduce-scatter. Bodies of
    loops count as often as they run.
    """
    parts, entry = _parse(text)
    found: dict[str, dict[str, int]] = defaultdict(lambda: {"count": 0, "bytes": 0})

    def visit(name: str, times: int, depth: int = 0) -> None:
        part = parts.get(name)
        if part is None or depth > 64:
            return
        for kind, size in part.own:
            found[kind]["count"] += times
            found[kind]["bytes"] += times * size
        for callee, condition in part.calls:
            turns = part.trips.get(callee) or (max(parts[condition].constants, default=1) if condition in parts else 1)
            visit(callee, times * turns, depth + 1)

    visit(entry, 1)
    return dict(found)


def total_bytes(found: dict[str, dict[str, int]]) -> int:
    """Bytes of all kinds together."""
    return sum(entry["bytes"] for entry in found.values())


def _parse(text: str) -> tuple[dict[str, _Computation], str]:
    parts: dict[str, _Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            current = parts.setdefault(header[2], _Computation())
            entry = header[2] if header[1] else entry
        elif current is not None:
            _read(line, current)
    return parts, entry


def _read(line: str, part: _Computation) -> None:
    """One instruction."""
    operation = _OP.match(line)
    if not operation:
        return
    shape, name = operation[2], operation[3]
    part.constants += [int(value) for value in _CONSTANT.findall(line)]
    kind = name.removesuffix("-done")
    if kind in KINDS:  # the "-start" half of a pair is left out
        size = _bytes(shape)
        part.own.append((kind, size * _group(line) if kind == "reduce-scatter" else size))
        return
    condition = _CONDITION.search(line)
    trips = _TRIPS.search(line)
    for _, names in _CALLED.findall(line):
        for callee in re.findall(r"[\w.\-]+", names):
            part.calls.append((callee, condition[1] if condition and name == "while" else ""))
            if trips and name == "while":
                part.trips[callee] = int(trips[1])


def _bytes(shape: str) -> int:
    """Bytes of a shape or tuple of shapes."""
    total = 0
    for kind, sides in _SHAPE.findall(shape):
        bits = re.search(r"\d+", kind)
        width = _WIDTH.get(kind) or (int(bits[0]) / 8 if bits else 0)
        total += int(math.prod(int(side) for side in sides.split(",") if side) * width)
    return total


def _group(line: str) -> int:
    """Devices that take part together."""
    iota = re.search(r"replica_groups=\[(\d+),(\d+)\]", line)
    if iota:
        return int(iota[2])
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", line)
    return len(listed[1].split(",")) if listed else 1


def describe(found: dict[str, Any]) -> str:
    """"all-reduce 12 x, 95.3 MiB; ..." or "none"."""
    rows = [f"{kind} {entry['count']}x {entry['bytes'] / 2**20:.1f} MiB" for kind, entry in sorted(found.items())]
    return "; ".join(rows) or "none"

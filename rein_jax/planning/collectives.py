"""The communication in a compiled program: which collectives, how often, how many bytes; read from the program's text (HLO)."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from rein_jax.planning import hlo

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


def collectives(text: str) -> dict[str, dict[str, int]]:
    """{kind: {"count", "bytes"}} of one run of the program on one device.

    Bytes are those of the whole value concerned: the result of an all-reduce or all-gather, the operand of a reduce-scatter. Bodies of
    loops count as often as they run, once where that is not known.
    """
    program = hlo.read(text)
    found: dict[str, dict[str, int]] = defaultdict(lambda: {"count": 0, "bytes": 0})

    def visit(name: str, times: int) -> None:
        for instruction in program.parts.get(name, []):
            kind = instruction.kind.removesuffix("-done")
            if kind in KINDS:  # the "-start" half of a pair is left out
                size = hlo.size(instruction.shape)
                found[kind]["count"] += times
                found[kind]["bytes"] += times * (size * _group(instruction.line) if kind == "reduce-scatter" else size)
                continue
            turns = (program.turns(instruction) or 1) if instruction.kind == "while" else 1
            for callee in instruction.called:
                visit(callee, times * turns)

    visit(program.entry, 1)
    return dict(found)


def total_bytes(found: dict[str, dict[str, int]]) -> int:
    """Bytes of all kinds together."""
    return sum(entry["bytes"] for entry in found.values())


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

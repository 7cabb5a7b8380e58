"""How long a program takes on a TPU by its compiler's own estimate, by part of the model; read from the program's text (HLO).

The TPU compiler writes `estimated_cycles` beside every fusion and copy it has scheduled. Added up, loops as often as they run, they say
where the time goes and whether a change helps, without a TPU. It is the compiler's model and no measurement: see docs/speed.md.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rein_jax.planning import hlo

PARTS = {  # scopes named in the model's code, and how their work is shown; of nested ones the innermost counts
    "embed": "embedding", "stem": "blocks", "blocks": "blocks", "stage": "blocks", "pyramid": "pyramid", "head": "rest of the head",
    "pixel_decoder": "pixel decoder", "encoder": "encoder", "decoder": "decoder", "loss": "loss", "matching": "matching",
    "points": "choice of points", "update": "update",
}  # fmt: skip
OTHER = "other"
TURNS = 12  # taken for a loop that ends on data
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_SCOPES = re.compile(r'op_name="([^"]*)"')
_WORDS = re.compile(r"[\w.]+")
_OPERANDS = re.compile(r"%([\w.\-]+)")


@dataclass(frozen=True)
class Chip:
    """What JAX calls one device of a kind of TPU. mhz: clock; peak: dense bf16 FLOP/s."""

    mhz: int
    peak: float


# Clock = peak of the data sheet / FLOP a cycle, which is 2 x side^2 x number of a core's matrix units (4 of 128 x 128, v6e 4 of 256 x 256:
# jax/_src/pallas/mosaic/tpu_info.py) x cores. In these cycles the compiler puts a product of 8192 x 8192 matrices at 71 to 91 % of the
# data sheet's arithmetic and a copy of 2 GiB at 71 to 81 % of its bandwidth. Each of a v4's two cores is a device.
CHIPS = {"v4": Chip(1050, 137.5e12), "v5e": Chip(1503, 197e12), "v5p": Chip(1751, 459e12), "v6e": Chip(1751, 918e12)}


@dataclass
class Estimate:
    """Cycles by (part, "forward" or "backward"), the work that has no estimate by (what, part, rows), how often it runs, and the loops
    that end on data."""

    cycles: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    silent: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    guessed: Counter[str] = field(default_factory=Counter)

    def report(self, kind: str, images: int, flops: float) -> dict[str, Any]:
        """JSON-able numbers for a TPU of this kind, a key of CHIPS; images and FLOP are those of one run on one device."""
        chip, total = CHIPS[kind], sum(self.cycles.values())
        spent = lambda cycles: round(cycles / chip.mhz / 1e3, 3)
        parts: dict[str, dict[str, float]] = defaultdict(dict)
        for (part, way), cycles in sorted(self.cycles.items(), key=lambda row: -row[1]):
            parts[part][way] = spent(cycles)
        seconds = total / chip.mhz / 1e6
        return {"cycles": total, "clock_mhz": chip.mhz, "milliseconds": spent(total),
                "images_per_second": round(images / seconds, 2) if total else None,
                "share_of_peak": round(flops / chip.peak / seconds, 4) if total else None,
                "parts": dict(sorted(parts.items(), key=lambda row: -sum(row[1].values()))),
                "without_estimate": [{"what": what, "part": part, "rows": rows, "times": times} for (what, part, rows), times in
                                     sorted(self.silent.items(), key=lambda row: -row[0][2] * row[1])],
                "loops_that_end_on_data": [{"part": part, "loops": loops, "turns_assumed": TURNS} for part, loops in self.guessed.items()]}


def estimate(text: str) -> Estimate:
    """The estimate of one run of the program `text` (`compiled.as_text()`) on one device."""
    program, found = hlo.read(text), Estimate()

    def visit(name: str, times: int, where: tuple[str, str]) -> None:
        instructions = program.parts.get(name, [])
        sizes = {instruction.name: instruction.shape for instruction in instructions}
        for instruction in instructions:
            here = _place(program, instruction) or where
            cycles = _CYCLES.search(instruction.line)
            if cycles:
                found.cycles[here] += int(cycles[1]) * times
            if instruction.kind == "while":
                turns = program.turns(instruction)
                if turns is None:
                    found.guessed[here[0]] += times
                for body in instruction.called:
                    visit(body, times * (TURNS if turns is None else turns), here)
            elif instruction.kind in ("call", "conditional", "async-start"):
                for body in instruction.called:
                    visit(body, times, here)
            else:
                for what, rows in _silent(program, instruction, sizes, counted=bool(cycles)):
                    found.silent[what, here[0], rows] += times

    visit(program.entry, 1, (OTHER, "forward"))
    return found


def _place(program: hlo.Program, instruction: hlo.Instruction) -> tuple[str, str] | None:
    """(part, direction) of an instruction, from its own scopes or those of what it fuses; None where they name no part."""
    scopes = _SCOPES.search(instruction.line)
    if scopes:
        names = [PARTS[name] for word in _WORDS.findall(scopes[1]) if (name := word.rstrip("0123456789")) in PARTS]
        return (names[-1], "backward" if "transpose(" in scopes[1] else "forward") if names else None
    if instruction.kind != "fusion":
        return None
    inside = (place for callee in instruction.called for one in reversed(program.parts.get(callee, [])) if (place := _place(program, one)))
    return next(inside, None)


def _silent(program: hlo.Program, instruction: hlo.Instruction, sizes: dict[str, str], *, counted: bool) -> Iterator[tuple[str, int]]:
    """(what, rows) of the sorts and scatters that an instruction runs, which no estimate holds, and of gathers and kernels without one."""
    kind = instruction.kind
    if kind in ("sort", "scatter") or (kind == "gather" and not counted):
        yield kind, _rows(instruction, sizes)
    elif kind == "custom-call" and "tpu_custom_call" in instruction.line and not counted:
        yield "kernel", 0
    elif kind in ("fusion", "custom-call"):
        for callee in instruction.called:
            inside = program.parts.get(callee, [])
            named = {one.name: one.shape for one in inside}
            for one in inside:
                yield from _silent(program, one, named, counted=counted)


def _rows(instruction: hlo.Instruction, sizes: dict[str, str]) -> int:
    """Numbers that a sort orders, or rows that a gather reads or a scatter adds: as many as it has indices."""
    own = hlo.shapes(instruction.shape)[0][1]
    if instruction.kind == "sort":
        return math.prod(own)
    operands = _OPERANDS.findall(instruction.line.split(f" {instruction.kind}(", 1)[1].split(")", 1)[0])
    place = 1 if instruction.kind == "gather" else len(operands) // 2
    shape = hlo.shapes(sizes.get(operands[place], "")) if place < len(operands) else []
    indices = shape[0][1] if shape else own
    axis = re.search(r"index_vector_dim=(\d+)", instruction.line)
    vector = indices[int(axis[1])] if axis and int(axis[1]) < len(indices) else 1
    return math.prod(indices) // max(vector, 1)

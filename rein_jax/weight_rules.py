"""Tables that say which array of a checkpoint becomes which parameter, read in both directions.

A `Rule` pairs a name of the file with a name of ours. Names may hold holes: `{layer}` stands in the source only and is the
position on the leading (stacked) axis of the target; every other hole stands in both names. One table serves loading
(`place`) and exporting (`unplace`), because every layout is an invertible change of axes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from rein_jax.errors import UserError

_HOLE = re.compile(r"\{(\w+)\}")
Change = Callable[[np.ndarray], np.ndarray]

# layout -> (file to ours, ours to file); all return views.
LAYOUTS: dict[str, tuple[Change, Change]] = {
    "same": (lambda w: w, lambda w: w),
    # torch Linear (out, in) <-> Flax kernel (in, out); also MultiheadAttention.in_proj_weight.
    "linear": (lambda w: w.T, lambda w: w.T),
    # torch Conv2d (O, I/groups, h, w) <-> Flax kernel (h, w, I/groups, O); depthwise convolutions included.
    "conv": (lambda w: w.transpose(2, 3, 1, 0), lambda w: w.transpose(3, 2, 0, 1)),
    # torch ConvTranspose2d (I, O, h, w) <-> nnx.ConvTranspose kernel (h, w, I, O): lax correlates where torch convolves,
    # so the kernel is also flipped in space.
    "conv_transpose": (lambda w: w.transpose(2, 3, 0, 1)[::-1, ::-1], lambda w: w[::-1, ::-1].transpose(2, 3, 0, 1)),
    # A 1x1 Conv2d (O, I, 1, 1) kept by us as a linear map (I, O).
    "conv1x1": (lambda w: w.reshape(w.shape[:2]).T, lambda w: w.T[:, :, None, None]),
    # Leading axes of length one that only one of the two sides has.
    "squeeze": (lambda w: w.reshape(w.shape[1:]), lambda w: w[None]),
    "squeeze2": (lambda w: w.reshape(w.shape[2:]), lambda w: w[None, None]),
    "expand": (lambda w: w[None], lambda w: w.reshape(w.shape[1:])),
    "expand2": (lambda w: w[None, None], lambda w: w.reshape(w.shape[2:])),
}


@dataclass(frozen=True)
class Rule:
    """One line of a table of names.

    source: name in the file ("blocks.{layer}.attn.qkv.weight"). target: our full flat name. layout: a key of LAYOUTS, or
    "zeros" (with source ""): a part of the target that this format does not store and that is zero (EVA-02's missing k bias
    in a fused qkv). part: (k, n) fills part k of n equal parts of the target's last axis. resize: "patch" or "pos_embed", a
    hook of the loader. index: position on the leading axis of the target, for a source without `{layer}`.
    """

    source: str
    target: str
    layout: str = "same"
    part: tuple[int, int] | None = None
    resize: str | None = None
    index: int | None = None

    def __post_init__(self):
        if self.layout not in LAYOUTS and self.layout != "zeros":
            raise ValueError(f"unknown layout {self.layout!r} in the rule for {self.source!r}; known: {', '.join(LAYOUTS)}")
        free = set(_HOLE.findall(self.source)) - {"layer"}
        if self.source and free != set(_HOLE.findall(self.target)):
            raise ValueError(f"the holes of {self.source!r} and {self.target!r} differ")

    @property
    def stacked(self) -> bool:
        """True where the source fills one position of the target's leading axis."""
        return "{layer}" in self.source or self.index is not None


@dataclass(frozen=True)
class Placement:
    """One array of a file and the place in our parameters that it fills."""

    source: str
    target: str
    index: int | None
    rule: Rule


@lru_cache(maxsize=4096)
def _pattern(template: str) -> re.Pattern:
    """The template as a regular expression: `{layer}` takes digits, other holes a word."""
    parts, seen, at = [], set(), 0
    for hole in _HOLE.finditer(template):
        name = hole.group(1)
        parts.append(re.escape(template[at:hole.start()]))
        parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{r'[0-9]{1,9}' if name == 'layer' else r'[A-Za-z0-9_]+'})")
        seen.add(name)
        at = hole.end()
    return re.compile("".join(parts) + re.escape(template[at:]))


def fill(template: str, values: Mapping[str, Any]) -> str:
    """The template with its holes filled."""
    return _HOLE.sub(lambda hole: str(values[hole.group(1)]), template)


def place(rules: Sequence[Rule], names: Iterable[str]) -> tuple[list[Placement], list[str]]:
    """(placements of the names that a rule covers, the other names); the first rule that matches a name decides."""
    placements, others = [], []
    for name in names:
        for rule in rules:
            found = _pattern(rule.source).fullmatch(name) if rule.source else None
            if found:
                values = found.groupdict()
                index = int(values["layer"]) if "layer" in values else rule.index
                placements.append(Placement(name, fill(rule.target, values), index, rule))
                break
        else:
            others.append(name)
    return placements, others


def unplace(rules: Sequence[Rule], arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Our arrays under the file's names: (views in the file's layout, names of ours that no rule covers).

    Where a table knows several names for one place, the first one is written. A UserError where a part that the file's format does not
    store, as zero, is not zero.
    """
    out: dict[str, np.ndarray] = {}
    written: set[tuple] = set()
    covered: set[str] = set()
    for rule in rules:
        if not rule.source:
            held = arrays.get(rule.target)
            if rule.layout == "zeros" and held is not None and np.any(np.asarray(held)[part_of(rule.part, np.shape(held))]):
                raise UserError(f"A part of {rule.target} is not zero, and this format has no place for it; export as safetensors.")
            if rule.part is None:
                covered.add(rule.target)
            continue
        for name, array in arrays.items():
            found = _pattern(rule.target).fullmatch(name)
            if not found:
                continue
            covered.add(name)
            for source, index, piece in _pieces(rule, found.groupdict(), np.asarray(array)):
                place_of_it = (name, index, rule.part)
                if place_of_it not in written:
                    written.add(place_of_it)
                    out[source] = piece
    return out, [name for name in arrays if name not in covered]


def _pieces(rule: Rule, values: dict[str, str], array: np.ndarray):
    """(name in the file, position on the leading axis, array in the file's layout) of what the rule takes out of the target."""
    if "{layer}" in rule.source:
        layers = [(fill(rule.source, {**values, "layer": i}), i, array[i]) for i in range(array.shape[0])]
    else:
        layers = [(fill(rule.source, values), rule.index, array if rule.index is None else array[rule.index])]
    for source, index, piece in layers:
        yield source, index, LAYOUTS[rule.layout][1](piece[part_of(rule.part, piece.shape)])


def part_of(part: tuple[int, int] | None, shape: Sequence[int]) -> tuple:
    """The index that selects part k of n of the last axis (everything when part is None)."""
    if part is None:
        return (Ellipsis,)
    k, n = part
    if not shape or shape[-1] % n:
        raise ValueError(f"an axis of shape {tuple(shape)} has no {n} equal parts")
    width = shape[-1] // n
    return (Ellipsis, slice(k * width, (k + 1) * width))


def prefixed(rules: Sequence[Rule], source: str = "", target: str = "") -> tuple[Rule, ...]:
    """The same table with a prefix put before every source and target name."""
    return tuple(replace(r, source=source + r.source if r.source else "", target=target + r.target) for r in rules)

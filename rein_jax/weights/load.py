"""Strict loading: every array of the file is used or skipped by a rule, every parameter gets exactly one value.

The plan (which array goes where, with which change of axes or resolution) is made and checked from names and shapes alone;
then each array is read once and copied into its place, so the peak is the parameters and one array.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.files import shown
from rein_jax.errors import UserError
from rein_jax.weight_rules import LAYOUTS, Placement, Rule, part_of, place
from rein_jax.weights.checkpoint import as_checkpoint
from rein_jax.weights.entries import Checkpoint
from rein_jax.weights.hooks import HOOKS, Fit
from rein_jax.weights.identify import identify, pretty
from rein_jax.weights.prefix import Format, choose
from rein_jax.weights.sharded import shard_of


@dataclass
class Summary:
    """What loading did. `str()` is one line, `details()` lists names."""

    path: str
    kind: str
    scheme: str = ""
    wrapper: str = ""
    prefix: str = ""
    loaded: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    other_parts: list[str] = field(default_factory=list)
    beside: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    def __str__(self) -> str:
        opened = f", opened at {'.'.join(filter(None, [self.wrapper, self.prefix.rstrip('.')]))!r}" if self.wrapper or self.prefix else ""
        parts = f", {len(self.other_parts)} of other parts of the file" if self.other_parts else ""
        names = f" in {self.scheme} names" if self.scheme else ""
        return (f"{self.path} ({self.kind}{names}{opened}): {len(self.loaded)} arrays loaded, {len(self.resized)} of them resized, "
                f"{len(self.skipped)} skipped by design{parts}.{self.chosen()}")

    def chosen(self) -> str:
        """Which of several sets of weights in the file was taken, if there are several."""
        if not self.beside:
            return ""
        here = ".".join(filter(None, [self.wrapper, self.prefix.rstrip(".")]))
        others = " and ".join(repr(name.rstrip(".")) if name else "those at the top" for name in self.beside)
        return f" The file holds several sets of weights: those under {here!r} are used, not {others}."

    def details(self) -> str:
        """The line and every name, grouped."""
        lines = [str(self)]
        for title in ("resized", "skipped", "other_parts", "loaded"):
            lines += [shown(f"{title.replace('_', ' ')}: {name}") for name in getattr(self, title)]
        return "\n".join(lines)


def load_scheme(
    shapes: Mapping[str, Any], checkpoint: Checkpoint, formats: Mapping[str, Format], *, fresh: Sequence[str] = (), **options
) -> tuple[dict[str, np.ndarray], Summary]:
    """`load_into` by the table and under the prefix that the file's own names fit; of several sets of weights the averaged one, which is
    said on stderr."""

    def fits(scheme: str, prefix: str) -> bool:
        try:
            _plan(shapes, checkpoint, *formats[scheme], fresh, prefix, Summary("", ""))
        except _Misfit:
            return False
        return True

    scheme, prefix, beside = choose(checkpoint, formats, fits)
    values, summary = load_into(shapes, checkpoint, *formats[scheme], fresh=fresh, prefix=prefix, **options)
    front = f"{checkpoint.wrapper}." if checkpoint.wrapper else ""
    summary.scheme, summary.beside = scheme, (*checkpoint.beside, *(front + other for other in beside))
    if summary.beside:
        print(f"{summary.path}:{summary.chosen()}", file=sys.stderr)
    return values, summary


def load_into(
    shapes: Mapping[str, Any], checkpoint: Mapping[str, Any] | str | Path, rules: Sequence[Rule], skip: Sequence[str] = (), *,
    fresh: Sequence[str] = (), prefix: str = "", fit: Fit | None = None, asked: str = "",
) -> tuple[dict[str, np.ndarray], Summary]:
    """Every array named in `shapes`, filled from the checkpoint by the table; dtypes are those of `shapes`.

    fresh: regular expressions of our names that the file may lack; they are then left out of the result.
    prefix: what stands before the table's names in the file; names without it are other parts of the file and left alone.
    asked: name of the backbone for messages. Raises UserError for: names of the file that no rule uses or skips, rules that
    point to parameters the model lacks, places filled twice, places left empty, shapes that do not fit, values that are not finite.
    """
    checkpoint, fit = as_checkpoint(checkpoint), fit or Fit()
    summary = Summary(str(checkpoint.path), checkpoint.kind, wrapper=checkpoint.wrapper, prefix=prefix, beside=checkpoint.beside,
                      files=checkpoint.files or (checkpoint.path,))
    try:
        plan, absent = _plan(shapes, checkpoint, rules, skip, fresh, prefix, summary)
    except _Misfit as misfit:
        raise UserError(_explain(checkpoint, misfit, asked)) from None
    values = {name: np.empty(spec.shape, spec.dtype) for name, spec in shapes.items() if name not in absent}
    for rule in rules:
        if rule.layout == "zeros" and rule.target in values:
            values[rule.target][part_of(rule.part, values[rule.target].shape)] = 0
    for placement in plan:
        _fill(values, placement, np.asarray(checkpoint[prefix + placement.source]), fit, summary, checkpoint.path)
    return values, summary


class _Misfit(Exception):
    """File and model do not belong together: (what, names)."""

    def __init__(self, what: str, names: Sequence[str] = ()):
        super().__init__(what)
        self.what, self.names = what, list(names)


def _plan(shapes, checkpoint: Checkpoint, rules, skip, fresh, prefix: str, summary: Summary) -> tuple[list[Placement], set[str]]:
    """(placements, checked for strictness in all four ways and for shapes; excused names of ours that the file lacks)."""
    inside = [name.removeprefix(prefix) for name in checkpoint if name.startswith(prefix)]
    summary.other_parts = [name for name in checkpoint if not name.startswith(prefix)]
    placements, others = place(rules, inside)
    excused = [name for name in others if any(re.fullmatch(pattern, name) for pattern in skip)]
    summary.skipped = excused
    unknown = sorted(set(others) - set(excused))
    if unknown:
        raise _Misfit("has keys that this model does not know", unknown)
    unexpected = [p.source for p in placements if p.target not in shapes]
    if unexpected:
        raise _Misfit("has keys for which this model has no parameter", unexpected)
    filled: dict[str, dict[tuple, str]] = {name: {} for name in shapes}
    for rule in rules:
        if rule.layout == "zeros" and rule.target in shapes:
            filled[rule.target].update({(i, rule.part): "" for i in _positions(rule, rules, shapes[rule.target].shape)})
    for p in placements:
        slot = (p.index, p.rule.part)
        if slot in filled[p.target]:
            raise _Misfit("has two keys for one parameter", [filled[p.target][slot], p.source])
        filled[p.target][slot] = p.source
        _check_shape(p, checkpoint.entries[prefix + p.source].shape, checkpoint.entries[prefix + p.source].dtype, shapes[p.target])
    missing = [name for name, slots in filled.items() if not _complete(slots, shapes[name].shape)]
    absent = {name for name in missing if not filled[name] and any(re.fullmatch(pattern, name) for pattern in fresh)}
    if set(missing) - absent:
        raise _Misfit("lacks what this model needs", [name for name in missing if name not in absent])
    return placements, absent


def _positions(rule: Rule, rules: Sequence[Rule], shape: Sequence[int]) -> list[int | None]:
    """Positions on the leading axis that a "zeros" rule fills: all of them where other rules stack into the same target."""
    stacked = any(other.target == rule.target and other.stacked for other in rules)
    return list(range(shape[0])) if stacked else [None]


def _complete(slots: Mapping[tuple, str], shape: Sequence[int]) -> bool:
    """True when the filled slots make up the whole array."""
    indices = {index for index, _ in slots}
    if not indices or (None not in indices and indices != set(range(shape[0]))):
        return False
    for index in indices:
        parts = [part for i, part in slots if i == index]
        if None in parts and len(parts) > 1 or None not in parts and {k for k, _ in parts} != set(range(parts[0][1])):
            return False
    return True


def _check_shape(p: Placement, shape: tuple[int, ...], dtype: np.dtype, spec: Any) -> None:
    """The file's shape, in our layout, must be that of the place (unless a hook resizes it)."""
    wanted = tuple(spec.shape)
    if p.index is not None:
        if not wanted or p.index >= wanted[0]:
            raise _Misfit(f"has a layer {p.index}, one more than the model's {wanted[0] if wanted else 0}", [p.source])
        wanted = wanted[1:]
    if p.rule.part is not None:
        wanted = (*wanted[:-1], wanted[-1] // p.rule.part[1])
    if np.dtype(dtype).kind == "c" or (np.dtype(dtype).kind in "iub") != (np.dtype(spec.dtype).kind in "iub"):
        raise _Misfit(f"holds {np.dtype(dtype).name} where the model has {np.dtype(spec.dtype).name}", [p.source])
    try:
        ours = LAYOUTS[p.rule.layout][0](np.broadcast_to(np.zeros((), np.bool_), shape)).shape
    except (ValueError, IndexError):
        ours = None
    if ours == wanted:
        return
    fits = p.rule.resize and ours is not None and len(ours) == len(wanted) and ours[-1] == wanted[-1]
    if not fits:
        layout = " in its own layout" if ours != tuple(shape) else ""
        raise _Misfit(f"has the shape {tuple(shape)} where the model needs {wanted}{layout}", [p.source])


def _fill(values, p: Placement, array: np.ndarray, fit: Fit, summary: Summary, path: Path) -> None:
    """One array into its place."""
    target = values[p.target] if p.index is None else values[p.target][p.index]
    target = target[part_of(p.rule.part, target.shape)]
    if array.dtype.kind not in "iub" and not np.isfinite(array).all():
        raise UserError(f"{path}: {p.source!r} holds values that are not finite (NaN or infinity); the file is damaged.")
    value = LAYOUTS[p.rule.layout][0](array)
    oblong = fit.grid is not None and fit.grid[0] != fit.grid[1] and p.rule.resize in ("pos_embed", "pos_embed_bilinear")
    if value.shape != target.shape or oblong:  # as many rows can be another grid
        summary.resized.append(f"{p.source} {value.shape} -> {target.shape}")
        value = HOOKS[p.rule.resize](value, target.shape, fit)
    copy_tiles(target, value)
    summary.loaded.append(p.source)


def copy_tiles(target: np.ndarray, value: np.ndarray, tile: int = 256) -> None:
    """`target[...] = value`; a transposed matrix in tiles that fit the cache, which is several times faster."""
    if target.ndim != 2 or value.flags.c_contiguous:
        target[...] = value
        return
    for i in range(0, target.shape[0], tile):
        for j in range(0, target.shape[1], tile):
            target[i:i + tile, j:j + tile] = value[i:i + tile, j:j + tile]


def _explain(checkpoint: Checkpoint, misfit: _Misfit, asked: str) -> str:
    """One sentence: the file, what it looks like, what was asked for, what does not fit."""
    found = identify(checkpoint.shapes())
    shown = ", ".join(repr(name) for name in misfit.names[:3]) + (f" and {len(misfit.names) - 3} more" if len(misfit.names) > 3 else "")
    detail = f"it {misfit.what}: {shown}" if shown else f"it {misfit.what}"
    asks = f"; the config asks for {pretty(asked)}" if asked else ""
    shard = shard_of(checkpoint.path)
    if shard:
        return f"{checkpoint.path} is only {shard}; give its folder or its *.index.json, which names all of them ({detail})."
    looks = f"this looks like {found.text}" if found else "it looks like none of the models known here"
    if found and asked and _alike(found.text) == _alike(pretty(asked)):
        return f"{checkpoint.path} does not fit: {looks}, as the config asks, but {detail}."
    return f"{checkpoint.path} does not fit: {looks}{asks} ({detail})."


def _alike(text: str) -> str:
    """The text without what a converted file or a config's name leaves open: the patch size, the kind of plain ViT, the stem."""
    return re.sub(r"/[0-9]+| \(V1c\)| \(or another plain\)", "", text)

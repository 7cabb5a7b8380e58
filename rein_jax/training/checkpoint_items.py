"""What a checkpoint holds: the arrays of the state by name, their check sums, and whether they fit a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rein_jax.errors import UserError
from rein_jax.training.state import TrainState

ARRAYS = ("trainable", "opt_state", "ema", "counters")


class Damaged(Exception):
    """A checkpoint whose content is not what was written; the message says what is wrong with it."""


def parts_of(state: TrainState) -> dict[str, dict[str, Any]]:
    """{item: {path: leaf}}; empty items are left out."""
    trees = {"trainable": state.trainable, "opt_state": state.opt_state, "ema": state.ema,
             "counters": {"step": state.step, "skipped": state.skipped, "row": state.row}}
    flat = {part: {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
            for part, tree in trees.items()}
    return {part: leaves for part, leaves in flat.items() if leaves}


@jax.jit
def sum_across(leaf: jax.Array) -> jax.Array:
    """`check_sum` of an array of which each process holds a part."""
    words = jax.lax.bitcast_convert_type(leaf, np.dtype(f"uint{8 * leaf.dtype.itemsize}"))
    return jnp.sum(words, dtype=jnp.uint32)


def check_sum(leaf: jax.Array) -> int:
    """The sum of an array's words modulo 2**32: the same on every mesh, another one for any flipped bit."""
    if leaf.is_fully_addressable or leaf.is_fully_replicated:  # nothing to compile
        return int(np.asarray(leaf).view(f"u{leaf.dtype.itemsize}").sum(dtype=np.uint32))
    return int(sum_across(leaf))


def check_sums(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    return {part: {path: check_sum(leaf) for path, leaf in leaves.items()} for part, leaves in parts.items()}


def altered(parts: Mapping[str, Mapping[str, Any]], saved: Mapping[str, Mapping[str, int]] | None) -> str | None:
    """What is wrong where the arrays are not those that were saved; checkpoints of older versions have no check sums."""
    for part, leaves in (check_sums(parts) if saved is not None else {}).items():
        for path, value in leaves.items():
            if saved.get(part, {}).get(path) != value:
                return f"{part}{path} is not what was saved"
    return None


def assemble(state: TrainState, parts: Mapping[str, Mapping[str, Any]]) -> TrainState:
    """The state with its leaves replaced by those of `parts`."""
    def fill(part: str, tree: Any) -> Any:
        return jax.tree_util.tree_map_with_path(lambda path, _: parts[part][jax.tree_util.keystr(path)], tree)

    counters = fill("counters", {"step": 0, "skipped": 0, "row": 0})
    return TrainState(**counters, trainable=fill("trainable", state.trainable), opt_state=fill("opt_state", state.opt_state),
                      ema=fill("ema", state.ema) if state.ema else {})


def check_arrays(saved: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Mapping[str, Any]]) -> None:
    """The tree, shapes and dtypes of a checkpoint against those of the run; a difference is a UserError that names it."""
    for part, leaves in wanted.items():
        there = saved.get(part, {})
        if part == "ema" and bool(there) != bool(leaves):
            raise UserError("The checkpoint was written with" + ("out" if not there else "") + " a moving average (train.ema); "
                            "set train.ema as it was or choose another workdir.")
        missing, extra = sorted(leaves.keys() - there.keys()), sorted(there.keys() - leaves.keys())
        if missing or extra:
            raise UserError(f"The checkpoint's {part} does not fit this model: it lacks {missing[:3] or 'nothing'} and has the "
                            f"unknown {extra[:3] or 'nothing'}; choose another workdir or the config it was trained with.")
        for path, (shape, dtype) in leaves.items():
            old_shape, old_dtype = there[path]
            if tuple(old_shape) != tuple(shape) or old_dtype != dtype:
                raise UserError(f"The checkpoint's {part}{path} is {tuple(old_shape)} {old_dtype}, this model needs "
                                f"{tuple(shape)} {dtype}; choose another workdir or the config it was trained with.")

"""Folding an adapter into the weights of its backbone, for the methods in which that is exact (LoRA, SoMA, RecycleLoRA)."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from rein_jax import trees
from rein_jax.adapters.base import BlockSpec
from rein_jax.errors import UserError


def kernel_stacks(names, spec: BlockSpec, linear: str) -> list[tuple[str, range]]:
    """Where the kernels of one linear map of these blocks lie: (name of a stack [n, in, out], numbers of its blocks), in block order.

    Most backbones hold one stack a stage; SAM holds one for every run of equal blocks. A map stored otherwise is a UserError.
    """
    shape = dict(spec.linears)[linear]
    found = [n for n in names if n.startswith("backbone/") and n.endswith(f"/{linear}/kernel") and tuple(names[n].shape[1:]) == shape]
    found.sort(key=lambda name: [int(part) if part.isdigit() else part for part in name.split("/")])
    stops = np.cumsum([names[n].shape[0] for n in found], dtype=int).tolist()
    if not found or stops[-1] != spec.depth:
        raise UserError(f"The linear map {linear!r} of this backbone is not stored as stacks of {spec.depth} kernels in all; "
                        "leave it out of config.adapter.targets.")  # fmt: skip
    return [(name, range(start, stop)) for name, start, stop in zip(found, [0, *stops], stops, strict=False)]


def active_rows(active, spec: BlockSpec, blocks: range) -> tuple[np.ndarray, np.ndarray]:
    """(rows of a stack of these blocks, rows of the adapter's layers) of the adapted blocks in the stack."""
    numbers = np.arange(spec.depth) if active is None else np.asarray(active)
    mine = np.flatnonzero((numbers >= blocks.start) & (numbers < blocks.stop))
    return numbers[mine] - blocks.start, mine


def can_merge(model: Any) -> bool:
    """True if every adapter of the Segmenter folds into the weights exactly."""
    return bool(model.adapters) and all(hasattr(adapter, "kernel_deltas") for adapter in model.adapters)


def merge_adapters(module_def: trees.ModuleDef, *parts: trees.FlatParams) -> trees.FlatParams:
    """Backbone and head leaves with the adapters folded in, computed in float32; fits the same model with `adapter.name="none"`."""
    values: trees.FlatParams = {}
    for part in parts:
        values.update(part)
    model = trees.merge(module_def, values)
    if not can_merge(model):
        raise UserError("This method does not merge into the backbone's weights (LoRA, SoMA and RecycleLoRA do); export it unmerged.")
    out = {name: array for name, array in values.items() if not name.startswith("adapters/")}
    for adapter in model.adapters:
        for deltas, leaf in ((adapter.kernel_deltas(), "kernel"), (adapter.bias_deltas(), "bias")):
            for linear, delta in deltas.items():
                for name, blocks in kernel_stacks(values, adapter.spec, linear):
                    rows, mine = active_rows(adapter.active, adapter.spec, blocks)
                    path = name.removesuffix("kernel") + leaf
                    out[path] = jnp.asarray(out[path], jnp.float32).at[rows].add(delta[mine])
    return out

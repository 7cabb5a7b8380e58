"""Folding an adapter into the weights of its backbone, for the methods in which that is exact (LoRA, SoMA)."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from rein_jax import trees
from rein_jax.errors import UserError


def kernel_paths(backbone: Any, names, stage: int, linear: str) -> str:
    """The name of the stacked kernel of one linear map of a stage: the one array backbone/.../{linear}/kernel with the stage's depth."""
    found = [n for n in names if n.startswith("backbone/") and n.endswith(f"/{linear}/kernel") and n.split("/")[-2] == linear]
    depth = backbone.stages[stage].depth
    found = [n for n in found if len(names[n].shape) == 3 and names[n].shape[0] == depth]
    if len(found) != 1:
        raise UserError(f"The linear map {linear!r} of this backbone is not stored as one stack of {depth} kernels; it cannot be merged.")
    return found[0]


def can_merge(model: Any) -> bool:
    """True if every adapter of the Segmenter folds into the weights exactly."""
    return bool(model.adapters) and all(hasattr(adapter, "kernel_deltas") for adapter in model.adapters)


def merge_adapters(skeleton: trees.Skeleton, *parts: trees.Flat) -> trees.Flat:
    """Backbone and head leaves with the adapters folded in, computed in float32; fits the same model with `adapter.name="none"`."""
    values: trees.Flat = {}
    for part in parts:
        values.update(part)
    model = trees.merge(skeleton, values)
    if not can_merge(model):
        raise UserError("This method does not merge into the backbone's weights (LoRA and SoMA do); export it unmerged.")
    out = {name: array for name, array in values.items() if not name.startswith("adapters/")}
    for i, adapter in enumerate(model.adapters):
        rows = np.asarray(adapter.active or range(adapter.stage.depth))
        for deltas, leaf in ((adapter.kernel_deltas(), "kernel"), (adapter.bias_deltas(), "bias")):
            for name, delta in deltas.items():
                path = kernel_paths(model.backbone, values, i, name).removesuffix("kernel") + leaf
                out[path] = jnp.asarray(out[path], jnp.float32).at[rows].add(delta)
    return out

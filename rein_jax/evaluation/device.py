"""The three compiled programs of the predictor, and how parameters get to their devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rein_jax import trees

TRACES: Counter[str] = Counter()  # compilations of each program in this process


def place(params: Mapping[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
    """Every parameter on every device of the mesh, whichever way training had it sharded."""
    everywhere = NamedSharding(mesh, PartitionSpec())
    return {name: jax.device_put(whole(array), everywhere) for name, array in params.items()}


def whole(array):
    """An array that this process can read whole."""
    if not isinstance(array, jax.Array) or array.is_fully_addressable:
        return array
    if array.is_fully_replicated:
        return np.asarray(array.addressable_data(0))
    return multihost_utils.process_allgather(array, tiled=True)


def on(params: Mapping[str, jax.Array], where: jax.Device) -> dict[str, jax.Array]:
    """The copy that one device holds of replicated parameters, without moving anything."""
    return {name: next(s.data for s in array.addressable_shards if s.device == where) for name, array in params.items()}


def zeros(shape: Sequence[int], where: jax.Device) -> jax.Array:
    """Float32 zeros made on the device."""
    return jnp.zeros(shape, jnp.float32, device=where)


@partial(jax.jit, static_argnums=0)
def score(module_def, params, images, sizes):
    """uint8 [B,h,w,3] -> float32 scores [B,h,w,K]; one compilation for each window shape of a model.

    sizes: None, or int32 [B, 2] where windows hold padding at the bottom and right.
    """
    TRACES["score"] += 1
    model = trees.merge(module_def, params)
    return (model.scores(images) if sizes is None else model.scores(images, sizes)).astype(jnp.float32)


@partial(jax.jit, donate_argnums=0)
def add(canvas, scores, where):
    """canvas [h,w,K] + window of scores [B,a,b,K], where int32 [3] = (window, y, x); in place where the device can."""
    TRACES["add"] += 1
    index, y, x = where
    window = jax.lax.dynamic_index_in_dim(scores, index, keepdims=False)
    there = jax.lax.dynamic_slice(canvas, (y, x, 0), window.shape)
    return jax.lax.dynamic_update_slice(canvas, there + window, (y, x, 0))


def resize(scores: jax.Array, plan: Mapping[str, Any]) -> jax.Array:
    """Bilinear resize [h,w,K] -> [H,W,K]: columns first and then rows, torch's order of rounding."""
    (y0, y1, fy), (x0, x1, fx) = plan["y"], plan["x"]
    fx, fy = fx[:, None], fy[:, None, None]
    scores = jnp.take(scores, x0, axis=1) * (1 - fx) + jnp.take(scores, x1, axis=1) * fx
    return jnp.take(scores, y0, axis=0) * (1 - fy) + jnp.take(scores, y1, axis=0) * fy


def views(canvases, plans, same: bool) -> list[jax.Array]:
    """Mean scores of each view at the size of the image file; `same`: that is the canvas's."""
    means = [canvas / (plan["rows"][:, None, None] * plan["columns"][None, :, None]) for canvas, plan in zip(canvases, plans, strict=True)]
    return means if same else [resize(scores, plan) for scores, plan in zip(means, plans, strict=True)]


@partial(jax.jit, static_argnums=(0, 1, 2))
def finish(module_def, levels: int, same: bool, params, canvases, plans):
    """canvases of an image's views -> (classes uint8 [H,W], confidence uint16 [H,W] in 1 / levels, or None if levels is 0).

    Mean over the windows, size of the image file (`same`: it is the canvas's), mean over the views, decision. params: None
    where neither confidences nor a mean over views is wanted.
    """
    TRACES["finish"] += 1
    found = views(canvases, plans, same)
    if params is None:
        return jnp.argmax(found[0], axis=-1).astype(jnp.uint8), None
    model = trees.merge(module_def, params)
    probabilities = sum(model.probabilities(view) for view in found) / len(found)
    decided = probabilities if len(found) > 1 else found[0]
    labels = jnp.argmax(decided, axis=-1).astype(jnp.uint8)
    if not levels:
        return labels, None
    level = (jnp.max(probabilities, axis=-1) * levels).astype(jnp.int32)
    return labels, jnp.clip(level, 0, levels - 1).astype(jnp.uint16)

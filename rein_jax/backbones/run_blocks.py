"""The one loop that runs stacked blocks, and calls an adapter at named places of each.

Blocks are run by `lax.scan`: one compiled body whatever the depth. ArtifactWriter of chosen blocks (at `out_indices`) travel in the carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rein_jax.adapters import base
from rein_jax.errors import UserError
from rein_jax.layers.stack import REMAT


@dataclass(frozen=True)
class Hooks:
    """An adapter bound to one layer; what a block sees of it."""

    adapter: base.Adapter
    layer_context: base.LayerContext

    def on_linear(self, name: str, x, y):
        return self.adapter.on_linear(self.layer_context, name, x, y)

    def on_mlp(self, x, y):
        return self.adapter.on_mlp(self.layer_context, x, y)


@dataclass(frozen=True)
class _Segment:
    """Consecutive blocks that are all adapted (`first` = adapter layer of the first one) or all plain (None)."""

    start: int
    stop: int
    first: int | None


def run_blocks(
    blocks: nnx.Module,
    x,
    *,
    adapter: base.Adapter | None = None,
    offset: int = 0,
    num_prefix_tokens: int = 0,
    out_indices: Sequence[int] = (),
    key=None,
    remat: str = "none",
    unroll: bool = False,
    context: Any = None,
    between: tuple[int, int] | None = None,
) -> tuple[Any, list]:
    """Run stacked blocks over x; returns (the last output, the outputs of the blocks in `out_indices`).

    blocks: from `stacked`; each is called `block(x, hooks, context)`. offset: number of the first block within the adapter's
    stage. num_prefix_tokens: tokens before the patch tokens. out_indices: block numbers counted like `offset`. remat: a key of REMAT.
    between: the first block to run, and the one to stop before, of this stack (default: all).
    `Adapter.pre_forward` and `post_forward` are the caller's (they frame the whole stage, not one run).
    """
    adapter = base.NONE if adapter is None else adapter
    if remat not in REMAT:
        raise UserError(f"config.backbone.remat is {remat!r}; choose one of {', '.join(REMAT)}.")
    graph, state = nnx.split(blocks)
    depth = jax.tree.leaves(state)[0].shape[0]
    layers = nnx.split(adapter.layers) if adapter.layers is not None else None

    def step(block_state, layer_state, x, index, layer_index, active_adapter):
        block = nnx.merge(graph, block_state)
        layer = nnx.merge(layers[0], layer_state) if layer_state is not None else None
        layer_context = base.LayerContext(layer, layer_index, num_prefix_tokens, None if key is None else jax.random.fold_in(key, index))
        y = block(active_adapter.pre_block(layer_context, x), Hooks(active_adapter, layer_context), context)
        y = active_adapter.post_block(layer_context, y)
        return y.astype(x.dtype)  # a float32 adapter must not widen a bfloat16 stream

    run = _run_unrolled if unroll else _run_scanned
    collected: list = [None] * len(out_indices)
    for segment in _segments(adapter, offset, depth, between or (0, depth)):
        active_adapter = adapter if segment.first is not None else base.NONE
        x, found = run(step, state, layers, x, segment, offset, out_indices, active_adapter, depth, REMAT[remat])
        for slot, value in found.items():
            collected[slot] = value
    return x, collected


def _segments(adapter: base.Adapter, offset: int, depth: int, between: tuple[int, int]) -> list[_Segment]:
    start, stop = between
    if adapter is base.NONE:
        return [_Segment(start, stop, None)]
    active = tuple(range(adapter.spec.depth)) if adapter.active is None else adapter.active
    numbers = [active.index(offset + i) if offset + i in active else None for i in range(depth)]
    cuts = [start] + [i for i in range(start + 1, stop) if (numbers[i] is None) != (numbers[i - 1] is None)] + [stop]
    return [_Segment(a, b, numbers[a]) for a, b in zip(cuts, cuts[1:], strict=False)]


def _take(state, start: int, stop: int):
    """Rows of the leading axis; the whole array is passed through untouched, so that the usual case copies nothing."""
    return jax.tree.map(lambda a: a if (start, stop) == (0, a.shape[0]) else a[start:stop], state)


def _run_unrolled(step, state, layers, x, segment, offset, out_indices, active_adapter, depth, remat):
    found = {}
    for i in range(segment.start, segment.stop):
        layer_state, layer_index = None, 0
        if segment.first is not None:
            layer_index = segment.first + i - segment.start
            layer_state = None if layers is None else jax.tree.map(lambda a: a[layer_index], layers[1])  # noqa: B023
        body = remat(lambda b, a, x, i=i, layer_index=layer_index: step(b, a, x, i, layer_index, active_adapter))
        x = body(jax.tree.map(lambda a: a[i], state), layer_state, x)  # noqa: B023
        if offset + i in out_indices:
            found[out_indices.index(offset + i)] = x
    return x, found


def _run_scanned(step, state, layers, x, segment, offset, out_indices, active_adapter, depth, remat):
    n = segment.stop - segment.start
    mine = [slot for slot, index in enumerate(out_indices) if segment.start <= index - offset < segment.stop]
    slots = np.full(n, len(mine), np.int32)  # the slot after the last one takes what nobody asked for
    for position, slot in enumerate(mine):
        slots[out_indices[slot] - offset - segment.start] = position
    layer_states = None
    if segment.first is not None and layers is not None:
        layer_states = _take(layers[1], segment.first, segment.first + n)
    layer_indices = jnp.arange(n) + (segment.first or 0)
    body = remat(lambda b, a, x, index, layer_index: step(b, a, x, index, layer_index, active_adapter))

    def scan(carry, row):
        x, kept = carry
        block_state, layer_state, index, layer_index, slot = row
        x = body(block_state, layer_state, x, index, layer_index)
        if mine:
            kept = jax.lax.dynamic_update_index_in_dim(kept, x, slot, 0)
        return (x, kept), None

    kept = jnp.zeros((len(mine) + 1, *x.shape), x.dtype) if mine else None
    numbers = jnp.arange(segment.start, segment.stop)
    rows = (_take(state, segment.start, segment.stop), layer_states, numbers, layer_indices, jnp.asarray(slots))
    (x, kept), _ = jax.lax.scan(scan, (x, kept), rows)
    return x, {slot: kept[position] for position, slot in enumerate(mine)}

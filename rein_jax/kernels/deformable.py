"""What multi-scale deformable attention does beside linear maps: weighted sums of bilinear samples of several maps.

The forms "blocks", "rows" and "gather" gather rows of one table; they differ in how many queries are read at a time and how rows are
added up. "hats" reads by products (`deformable_tpu.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rein_jax.kernels.deformable_tpu import hat_products, suits
from rein_jax.kernels.platforms import kernel_memory, target
from rein_jax.kernels.sampling import Neighbours, neighbours, sample_vectors, take

Size = tuple[int, int]


def deformable_sum(value: jax.Array, sizes: Sequence[Size], locations: jax.Array, weights: jax.Array, *,
                   low_memory: bool = False) -> jax.Array:
    """Weighted sum of bilinear samples of every level.

    Args:
        value: [B, S, heads, c], the flattened levels one after the other, S = sum of h * w.
        sizes: (h, w) of each level.
        locations: float32 [B, N, heads, levels, points, 2], (x, y) in [0, 1] of their level; zero is read outside.
        weights: [B, N, heads, levels, points].
        low_memory: some queries at a time, where a form reads all at once otherwise.

    Returns:
        [B, N, heads, c].
    """
    form = {"cpu": "blocks", "gpu": "rows"}.get(target(), "gather")
    exported = not isinstance(value.shape[0], int)  # with a free batch size, to run anywhere
    if not exported and suits(value, sizes, locations.shape[-2], kernel_memory()):
        form = "hats"
    return FORMS[form](value, tuple(sizes), locations, weights, low_memory)


def _reference(value, sizes, locations, weights, low_memory):
    """Level by level as it is defined; all that is read is kept for the gradient."""
    batch, queries, heads, _, points, _ = locations.shape
    total, start = 0, 0
    for level, (height, width) in enumerate(sizes):
        maps = value[:, start:start + height * width].reshape(batch, height, width, heads, -1)
        where = jnp.swapaxes(locations[:, :, :, level], 1, 2).reshape(batch, heads, queries * points, 2)
        read = sample_vectors(jnp.moveaxis(maps, 3, 1), where).reshape(batch, heads, queries, points, -1)
        total += jnp.einsum("bhnpc,bnhp->bnhc", read, weights[:, :, :, level].astype(value.dtype))
        start += height * width
    return total


def _blocks(value, sizes, locations, weights, low_memory):
    """For a CPU: so few queries at a time that what is read stays in its cache, which makes it four times faster."""
    return _sum_in_blocks(value, sizes, locations, weights, rows=2**15, by_row=False)


def _rows(value, sizes, locations, weights, low_memory):
    """For a GPU: row after row in one kernel."""
    return _sum_in_blocks(value, sizes, locations, weights, rows=2**19 if low_memory else None, by_row=True)


def _gather(value, sizes, locations, weights, low_memory):
    """All rows read, then one product."""
    return _sum_in_blocks(value, sizes, locations, weights, rows=2**19 if low_memory else None, by_row=False)


FORMS = {"reference": _reference, "blocks": _blocks, "rows": _rows, "gather": _gather, "hats": hat_products}


class _Plan(NamedTuple):
    """What is static of a sum."""

    sizes: tuple[Size, ...]
    queries: int  # at a time
    by_row: bool  # see `_weighted_rows`


def _sum_in_blocks(value, sizes, locations, weights, *, rows: int | None, by_row: bool) -> jax.Array:
    """rows: how many rows are read at a time, all unless given."""
    table = value.reshape(value.shape[0], -1, value.shape[-1])  # rows: (position, head)
    queries, reads = locations.shape[1], 4 * weights[0, 0].size
    plan = _Plan(sizes, _queries_at_once(queries, reads, queries * reads if rows is None else rows), by_row)
    # Images stay a batch axis of the gather, so that it splits among devices.
    return jax.vmap(lambda *image: _sampled_sum(plan, *image))(table, locations, weights)


def _queries_at_once(queries: int, reads: int, rows: int) -> int:
    """How many queries of `reads` rows each are read before the next ones, at most `rows` rows; divides their number."""
    return max(n for n in range(1, queries + 1) if queries % n == 0 and (n * reads <= rows or n == 1))


def _cells(sizes: Sequence[Size], locations: jax.Array) -> tuple[jax.Array, Neighbours, Neighbours]:
    """(rows of the table [n, heads, 4 * levels * points], neighbours along x, along y) of locations [n, heads, levels, points, 2].

    Corners come first: top left, top right, bottom left, bottom right.
    """
    heads = locations.shape[1]
    height, width = np.asarray(sizes, np.int32).T[..., None]  # [levels, 1], against [levels, points]
    start = np.cumsum([0, *(h * w for h, w in sizes[:-1])], dtype=np.int32)[:, None]
    x, y = neighbours(locations[..., 0], width), neighbours(locations[..., 1], height)
    head = np.arange(heads, dtype=np.int32)[:, None, None]
    return _joined([(i * width + j + start) * heads + head for i in y.index for j in x.index]), x, y


def _corner_weights(x: Neighbours, y: Neighbours) -> list[jax.Array]:
    """Bilinear weights of the corners, [n, heads, levels, points] each."""
    return [v * w for v in y.weight for w in x.weight]


def _joined(parts: list[jax.Array]) -> jax.Array:
    """Four of [n, heads, levels, points] -> [n, heads, 4 * levels * points]."""
    return jnp.concatenate([part.reshape(*part.shape[:2], -1) for part in parts], axis=-1)


def _weighted_rows(table: jax.Array, index: jax.Array, factor: jax.Array, by_row: bool) -> jax.Array:
    """The rows index [n, heads, k] of a table [S * heads, c], added up with their factors [n, heads, k] -> [n, heads, c]."""
    if not by_row:
        return jnp.einsum("nhk,nhkc->nhc", factor, take(table, index))
    # For a product XLA for GPUs writes what is read first, turned over: 2 GB for 16 images of 512. The barrier keeps it from finding
    # index and factor anew for every row, and factors without the last axis from slicing them in kernels of their own.
    index, factor = jax.lax.optimization_barrier((index, factor))
    row = lambda k: factor[..., k, None].astype(jnp.float32) * take(table, index[..., k])
    return sum(row(k) for k in range(index.shape[-1])).astype(table.dtype)


def _slopes(x: Neighbours, y: Neighbours, gradients: list[jax.Array]) -> jax.Array:
    """From the gradients of the corner weights to that of (x, y) in pixels, [n, heads, levels, points, 2]."""
    a, b, c, d = gradients
    across = lambda axis, near, far: jnp.where(axis.inside[1], far, 0.0) - jnp.where(axis.inside[0], near, 0.0)
    return jnp.stack([y.weight[0] * across(x, a, b) + y.weight[1] * across(x, c, d),
                      x.weight[0] * across(y, a, c) + x.weight[1] * across(y, b, d)], axis=-1)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sampled_sum(plan: _Plan, table: jax.Array, locations: jax.Array, weights: jax.Array) -> jax.Array:
    """`deformable_sum` of one image, table [S * heads, c].

    The rows that are read, 4 * levels * points times the size of the result, are never kept: the backward pass reads them
    again and adds the table's gradient up in place.
    """

    def step(_, block):
        index, x, y = _cells(plan.sizes, block[0])
        factor = _joined([corner * block[1] for corner in _corner_weights(x, y)]).astype(table.dtype)
        return None, _weighted_rows(table, index, factor, plan.by_row)

    _, result = jax.lax.scan(step, None, _in_blocks(plan.queries, locations, weights))
    return result.reshape(-1, *result.shape[2:])


def _forward(plan, *inputs):
    return _sampled_sum(plan, *inputs), inputs


def _backward(plan, saved, gradient):
    table, locations, weights = saved
    pixels = np.asarray([(w, h) for h, w in plan.sizes], np.float32)[:, None]

    def step(total, block):
        location, weight, gradient = block
        index, x, y = _cells(plan.sizes, location)
        corner = _corner_weights(x, y)
        reads = jnp.einsum("nhc,nhkc->nhk", gradient, take(table, index), preferred_element_type=weight.dtype)
        reads = [read.reshape(weight.shape) for read in jnp.split(reads, 4, axis=-1)]
        rows = _joined([c * weight for c in corner])[..., None] * gradient[:, :, None].astype(weight.dtype)
        total = total.at[index].add(rows.astype(total.dtype), mode="promise_in_bounds")
        of_weight = sum(c * read for c, read in zip(corner, reads, strict=True))
        return total, (_slopes(x, y, reads) * weight[..., None] * pixels, of_weight)

    start = jnp.zeros(table.shape, jnp.float32)  # thousands of summands meet here: not in bfloat16
    total, (of_locations, of_weights) = jax.lax.scan(step, start, _in_blocks(plan.queries, locations, weights, gradient))
    return total.astype(table.dtype), of_locations.reshape(locations.shape), of_weights.reshape(weights.shape)


_sampled_sum.defvjp(_forward, _backward)


def _in_blocks(queries: int, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    """[N, ...] -> [N / queries, queries, ...]."""
    return tuple(a.reshape(-1, queries, *a.shape[1:]) for a in arrays)

"""Multi-scale deformable attention (Zhu et al., Deformable DETR, 2021) in plain JAX."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rein_jax.layers.sampling import corners, take

Size = tuple[int, int]


def reference_points(sizes: Sequence[Size]) -> np.ndarray:
    """Float32 [N, 2]: the (x, y) centre of every position of the flattened levels, in [0, 1]."""
    points = []
    for height, width in sizes:
        y, x = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
        points.append(np.stack([x.reshape(-1), y.reshape(-1)], axis=-1))
    return np.concatenate(points).astype(np.float32)


def deformable_sum(value: jax.Array, sizes: Sequence[Size], places: jax.Array, weights: jax.Array, *,
                   low_memory: bool = False) -> jax.Array:
    """Weighted sum of bilinear samples.

    value [B, S, heads, c] (flattened levels of the given sizes, S = sum of h * w); places float32 [B, N, heads, levels,
    points, 2], (x, y) in [0, 1] of their level; weights [B, N, heads, levels, points] -> [B, N, heads, c].
    """
    table = value.reshape(value.shape[0], -1, value.shape[-1])  # rows: (position, head)
    part = _queries_at_once(places.shape[1], 4 * weights[0, 0].size, low_memory)
    # Images stay a batch axis of the gather, so that it splits among devices.
    return jax.vmap(lambda *image: _sampled_sum((tuple(sizes), part), *image))(table, places, weights)


def _queries_at_once(queries: int, reads: int, low_memory: bool) -> int:
    """How many queries are read before the next ones; divides their number.

    On CPU what is read should stay in the cache, which makes it four times faster.
    """
    rows = 2**15 if jax.default_backend() == "cpu" else 2**19 if low_memory else queries * reads
    return max(n for n in range(1, queries + 1) if queries % n == 0 and (n * reads <= rows or n == 1))


def _rows(sizes: Sequence[Size], places: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(rows of the table, corner weights) [n, heads, levels, points, 4] of places [n, heads, levels, points, 2]."""
    heads = places.shape[1]
    height, width = np.asarray(sizes, np.int32).T[..., None]  # [levels, 1], against [levels, points]
    start = np.cumsum([0, *(h * w for h, w in sizes[:-1])], dtype=np.int32)[:, None, None]
    index, corner = corners(places, height, width)
    return (index + start) * heads + np.arange(heads, dtype=np.int32)[:, None, None, None], corner


def _flat(a: jax.Array) -> jax.Array:
    """[n, heads, levels, points, 4] -> [n, heads, levels * points * 4]."""
    return a.reshape(*a.shape[:2], -1)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sampled_sum(plan: tuple, table: jax.Array, places: jax.Array, weights: jax.Array) -> jax.Array:
    """`deformable_sum` of one image, table [S * heads, c], `plan` = (sizes, queries at a time).

    The rows that are read, 4 * levels * points times the size of the result, are never kept: the backward pass reads them
    again and adds the table's gradient up in place.
    """
    sizes, part = plan

    def step(_, piece):
        index, corner = _rows(sizes, piece[0])
        factor = (corner * piece[1][..., None]).astype(table.dtype)
        return None, jnp.einsum("nhk,nhkc->nhc", _flat(factor), take(table, _flat(index)))

    _, result = jax.lax.scan(step, None, _pieces(part, places, weights))
    return result.reshape(-1, *result.shape[2:])


def _forward(plan, *inputs):
    return _sampled_sum(plan, *inputs), inputs


def _backward(plan, saved, gradient):
    table, places, weights = saved
    sizes, part = plan

    def step(total, piece):
        place, weight, gradient = piece
        index, _ = _rows(sizes, place)
        factor, pull = jax.vjp(lambda place, weight: _flat(_rows(sizes, place)[1] * weight[..., None]), place, weight)
        index = _flat(index)
        of_factor = jnp.einsum("nhc,nhkc->nhk", gradient, take(table, index), preferred_element_type=factor.dtype)
        rows = factor[..., None] * gradient[:, :, None].astype(factor.dtype)
        return total.at[index].add(rows.astype(total.dtype), mode="promise_in_bounds"), pull(of_factor)

    start = jnp.zeros(table.shape, jnp.float32)  # thousands of summands meet here: not in bfloat16
    total, (of_places, of_weights) = jax.lax.scan(step, start, _pieces(part, places, weights, gradient))
    return total.astype(table.dtype), of_places.reshape(places.shape), of_weights.reshape(weights.shape)


_sampled_sum.defvjp(_forward, _backward)


def _pieces(part: int, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    """[N, ...] -> [N / part, part, ...]."""
    return tuple(a.reshape(-1, part, *a.shape[1:]) for a in arrays)


class DeformableAttention(nnx.Module):
    """Each position reads a few points of every level, at learned offsets from itself.

    Initial values: values and output Xavier-uniform with zero biases; offsets point in `heads` directions, the k-th point
    k steps away; attention weights equal (mmcv's MultiScaleDeformableAttention). low_memory: some queries at a time.
    """

    def __init__(self, width: int, heads: int, levels: int, points: int, *, rngs: nnx.Rngs, low_memory: bool = False):
        self.heads, self.levels, self.points, self.low_memory = heads, levels, points, low_memory
        xavier, zeros = nnx.initializers.xavier_uniform(), nnx.initializers.zeros_init()
        samples = heads * levels * points
        self.value = nnx.Linear(width, width, kernel_init=xavier, rngs=rngs)
        self.offsets = nnx.Linear(width, 2 * samples, kernel_init=zeros, bias_init=self._ring, rngs=rngs)
        self.weights = nnx.Linear(width, samples, kernel_init=zeros, rngs=rngs)
        self.output = nnx.Linear(width, width, kernel_init=xavier, rngs=rngs)

    def _ring(self, key, shape, dtype=jnp.float32) -> jax.Array:
        angle = np.arange(self.heads) * (2 * np.pi / self.heads)
        ring = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        ring /= np.abs(ring).max(axis=-1, keepdims=True)
        steps = np.arange(1, self.points + 1)
        grid = np.broadcast_to(ring[:, None, None] * steps[:, None], (self.heads, self.levels, self.points, 2))
        return jnp.asarray(grid.reshape(shape), dtype)

    def __call__(self, query: jax.Array, x: jax.Array, sizes: Sequence[Size]) -> jax.Array:
        """query (x with positions added) and x [B, N, C] over the flattened levels of the given sizes -> [B, N, C]."""
        batch, n, width = x.shape
        lead = (batch, n, self.heads, self.levels, self.points)
        value = self.value(x).reshape(batch, n, self.heads, width // self.heads)
        # Places stay float32: bfloat16 cannot tell neighbouring pixels of a large map apart.
        offsets = self.offsets(query).astype(jnp.float32).reshape(*lead, 2)
        scale = np.asarray([(w, h) for h, w in sizes], np.float32)[:, None]
        places = reference_points(sizes)[:, None, None, None] + offsets / scale
        logits = self.weights(query).astype(jnp.float32).reshape(batch, n, self.heads, -1)
        weights = jax.nn.softmax(logits, axis=-1).reshape(lead)
        return self.output(deformable_sum(value, sizes, places, weights, low_memory=self.low_memory).reshape(x.shape))

"""Multi-scale deformable attention (Zhu et al., Deformable DETR, 2021) in plain JAX."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rein_jax.kernels.platforms import target
from rein_jax.kernels.sampling import Neighbours, neighbours, take

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
    rows = 2**15 if target() == "cpu" else 2**19 if low_memory else queries * reads
    return max(n for n in range(1, queries + 1) if queries % n == 0 and (n * reads <= rows or n == 1))


def _cells(sizes: Sequence[Size], places: jax.Array) -> tuple[jax.Array, Neighbours, Neighbours]:
    """(rows of the table [n, heads, 4 * levels * points], neighbours along x, along y) of places [n, heads, levels, points, 2].

    Corners come first: top left, top right, bottom left, bottom right.
    """
    heads = places.shape[1]
    height, width = np.asarray(sizes, np.int32).T[..., None]  # [levels, 1], against [levels, points]
    start = np.cumsum([0, *(h * w for h, w in sizes[:-1])], dtype=np.int32)[:, None]
    x, y = neighbours(places[..., 0], width), neighbours(places[..., 1], height)
    head = np.arange(heads, dtype=np.int32)[:, None, None]
    return _joined([(i * width + j + start) * heads + head for i in y.index for j in x.index]), x, y


def _corners(x: Neighbours, y: Neighbours) -> list[jax.Array]:
    """Bilinear weights of the corners, [n, heads, levels, points] each."""
    return [v * w for v in y.weight for w in x.weight]


def _joined(parts: list[jax.Array]) -> jax.Array:
    """Four of [n, heads, levels, points] -> [n, heads, 4 * levels * points]."""
    return jnp.concatenate([part.reshape(*part.shape[:2], -1) for part in parts], axis=-1)


def _weighted_rows(table: jax.Array, index: jax.Array, factor: jax.Array) -> jax.Array:
    """The rows index [n, heads, k] of a table [S * heads, c], added up with their factors [n, heads, k] -> [n, heads, c]."""
    if target() != "gpu":
        return jnp.einsum("nhk,nhkc->nhc", factor, take(table, index))
    # Row after row in one kernel. For a product XLA writes what is read first, turned over: 2 GB for 16 images of 512. The barrier keeps
    # it from finding index and factor anew for every row, and factors without the last axis from slicing them in kernels of their own.
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
def _sampled_sum(plan: tuple, table: jax.Array, places: jax.Array, weights: jax.Array) -> jax.Array:
    """`deformable_sum` of one image, table [S * heads, c], `plan` = (sizes, queries at a time).

    The rows that are read, 4 * levels * points times the size of the result, are never kept: the backward pass reads them
    again and adds the table's gradient up in place.
    """
    sizes, part = plan

    def step(_, piece):
        index, x, y = _cells(sizes, piece[0])
        factor = _joined([corner * piece[1] for corner in _corners(x, y)]).astype(table.dtype)
        return None, _weighted_rows(table, index, factor)

    _, result = jax.lax.scan(step, None, _pieces(part, places, weights))
    return result.reshape(-1, *result.shape[2:])


def _forward(plan, *inputs):
    return _sampled_sum(plan, *inputs), inputs


def _backward(plan, saved, gradient):
    table, places, weights = saved
    sizes, part = plan
    pixels = np.asarray([(w, h) for h, w in sizes], np.float32)[:, None]

    def step(total, piece):
        place, weight, gradient = piece
        index, x, y = _cells(sizes, place)
        corner = _corners(x, y)
        reads = jnp.einsum("nhc,nhkc->nhk", gradient, take(table, index), preferred_element_type=weight.dtype)
        reads = [read.reshape(weight.shape) for read in jnp.split(reads, 4, axis=-1)]
        rows = _joined([c * weight for c in corner])[..., None] * gradient[:, :, None].astype(weight.dtype)
        total = total.at[index].add(rows.astype(total.dtype), mode="promise_in_bounds")
        of_weight = sum(c * read for c, read in zip(corner, reads, strict=True))
        return total, (_slopes(x, y, reads) * weight[..., None] * pixels, of_weight)

    start = jnp.zeros(table.shape, jnp.float32)  # thousands of summands meet here: not in bfloat16
    total, (of_places, of_weights) = jax.lax.scan(step, start, _pieces(part, places, weights, gradient))
    return total.astype(table.dtype), of_places.reshape(places.shape), of_weights.reshape(weights.shape)


_sampled_sum.defvjp(_forward, _backward)


def _pieces(part: int, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    """[N, ...] -> [N / part, part, ...]."""
    return tuple(a.reshape(-1, part, *a.shape[1:]) for a in arrays)


@jax.custom_vjp
def _with_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """x [B, N, C] + bias [C].

    Its gradient is summed over each image's positions before it is over images: left to itself XLA for TPU, behind a scatter, adds up
    [N, C] between devices first.
    """
    return x + bias


def _of_bias(_, gradient):
    each = jax.lax.optimization_barrier(gradient.sum(axis=1))
    return gradient, each.sum(axis=0)


_with_bias.defvjp(lambda x, bias: (x + bias, None), _of_bias)


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
        value = _with_bias(x @ self.value.kernel[...], self.value.bias[...]).reshape(batch, n, self.heads, width // self.heads)
        # Places stay float32: bfloat16 cannot tell neighbouring pixels of a large map apart.
        offsets = self.offsets(query).astype(jnp.float32).reshape(*lead, 2)
        scale = np.asarray([(w, h) for h, w in sizes], np.float32)[:, None]
        places = reference_points(sizes)[:, None, None, None] + offsets / scale
        logits = self.weights(query).astype(jnp.float32).reshape(batch, n, self.heads, -1)
        weights = jax.nn.softmax(logits, axis=-1).reshape(lead)
        return self.output(deformable_sum(value, sizes, places, weights, low_memory=self.low_memory).reshape(x.shape))

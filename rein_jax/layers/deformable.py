"""Multi-scale deformable attention (Zhu et al., Deformable DETR, 2021) in plain JAX."""

from __future__ import annotations

from collections.abc import Sequence

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


def deformable_sum(value: jax.Array, sizes: Sequence[Size], places: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted sum of bilinear samples.

    value [B, S, heads, c] (flattened levels of the given sizes, S = sum of h * w); places float32 [B, N, heads, levels,
    points, 2], (x, y) in [0, 1] of their level; weights [B, N, heads, levels, points] -> [B, N, heads, c].
    """
    batch, total, heads, channels = value.shape
    height, width = np.asarray(sizes, np.int32).T[..., None]  # [levels, 1], against [levels, points]
    start = np.cumsum([0, *(h * w for h, w in sizes[:-1])], dtype=np.int32)[:, None, None]
    index, corner = corners(places, height, width)
    # Rows of the table are (image, position, head): one gather for all levels, points and corners.
    image = jnp.arange(batch, dtype=jnp.int32)[:, None, None, None, None, None] * total
    head = np.arange(heads, dtype=np.int32)[:, None, None, None]
    rows = take(value.reshape(-1, channels), (image + start + index) * heads + head)
    factor = (corner * weights[..., None]).astype(value.dtype)
    lead = (*factor.shape[:3], -1)
    return jnp.einsum("bnhk,bnhkc->bnhc", factor.reshape(lead), rows.reshape(*lead, channels))


def deformable_sum_by_head(value: jax.Array, sizes: Sequence[Size], places: jax.Array, weights: jax.Array) -> jax.Array:
    """`deformable_sum` one head at a time, recomputed in the backward pass: about a fifth of the memory, twice the time."""

    @jax.checkpoint
    def one(args):
        v, p, w = args
        return deformable_sum(v[:, :, None], sizes, p[:, :, None], w[:, :, None])[:, :, 0]

    heads_first = [jnp.moveaxis(a, 2, 0) for a in (value, places, weights)]
    return jnp.moveaxis(jax.lax.map(one, tuple(heads_first)), 0, 2)


class DeformableAttention(nnx.Module):
    """Each position reads a few points of every level, at learned offsets from itself.

    Initial values: values and output Xavier-uniform with zero biases; offsets point in `heads` directions, the k-th point
    k steps away; attention weights equal (mmcv's MultiScaleDeformableAttention). low_memory: one head at a time.
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
        read = deformable_sum_by_head if self.low_memory else deformable_sum
        return self.output(read(value, sizes, places, weights).reshape(x.shape))

"""Multi-scale deformable attention (Zhu et al., Deformable DETR, 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rein_jax.kernels.deformable import Size, deformable_sum


def reference_points(sizes: Sequence[Size]) -> np.ndarray:
    """Float32 [N, 2]: the (x, y) centre of every position of the flattened levels, in [0, 1]."""
    points = []
    for height, width in sizes:
        y, x = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
        points.append(np.stack([x.reshape(-1), y.reshape(-1)], axis=-1))
    return np.concatenate(points).astype(np.float32)


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

    def __init__(self, embed_dim: int, heads: int, levels: int, points: int, *, rngs: nnx.Rngs, low_memory: bool = False):
        self.heads, self.levels, self.points, self.low_memory = heads, levels, points, low_memory
        xavier, zeros = nnx.initializers.xavier_uniform(), nnx.initializers.zeros_init()
        samples = heads * levels * points
        self.value = nnx.Linear(embed_dim, embed_dim, kernel_init=xavier, rngs=rngs)
        self.offsets = nnx.Linear(embed_dim, 2 * samples, kernel_init=zeros, bias_init=self._ring, rngs=rngs)
        self.weights = nnx.Linear(embed_dim, samples, kernel_init=zeros, rngs=rngs)
        self.output = nnx.Linear(embed_dim, embed_dim, kernel_init=xavier, rngs=rngs)

    def _ring(self, key, shape, dtype=jnp.float32) -> jax.Array:
        angle = np.arange(self.heads) * (2 * np.pi / self.heads)
        ring = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        ring /= np.abs(ring).max(axis=-1, keepdims=True)
        steps = np.arange(1, self.points + 1)
        grid = np.broadcast_to(ring[:, None, None] * steps[:, None], (self.heads, self.levels, self.points, 2))
        return jnp.asarray(grid.reshape(shape), dtype)

    def __call__(self, query: jax.Array, x: jax.Array, sizes: Sequence[Size]) -> jax.Array:
        """query (x with positions added) and x [B, N, C] over the flattened levels of the given sizes -> [B, N, C]."""
        batch, n, embed_dim = x.shape
        lead = (batch, n, self.heads, self.levels, self.points)
        value = _with_bias(x @ self.value.kernel[...], self.value.bias[...]).reshape(batch, n, self.heads, embed_dim // self.heads)
        # Locations stay float32: bfloat16 cannot tell neighbouring pixels of a large map apart.
        offsets = self.offsets(query).astype(jnp.float32).reshape(*lead, 2)
        scale = np.asarray([(w, h) for h, w in sizes], np.float32)[:, None]
        locations = reference_points(sizes)[:, None, None, None] + offsets / scale
        logits = self.weights(query).astype(jnp.float32).reshape(batch, n, self.heads, -1)
        weights = jax.nn.softmax(logits, axis=-1).reshape(lead)
        return self.output(deformable_sum(value, sizes, locations, weights, low_memory=self.low_memory).reshape(x.shape))

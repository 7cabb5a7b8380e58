"""Two-dimensional rotary positions as EVA-02 uses them."""

from __future__ import annotations

from functools import lru_cache

import jax.numpy as jnp
import numpy as np


@lru_cache(maxsize=32)
def tables(grid: tuple[int, int], head_dim: int, span: float = 16.0, theta: float = 10000.0) -> tuple[np.ndarray, np.ndarray]:
    """(cos, sin) of the angles of every patch, float32 [h * w, head_dim]: first half by row, second half by column.

    Positions run from 0 to `span` (the grid of pretraining) along each side whatever the number of patches, so that a finer grid
    interpolates. Each frequency serves two neighbouring channels.
    """
    dim = head_dim // 2
    frequencies = theta ** (-np.arange(0, dim, 2, dtype=np.float64)[: dim // 2] / dim)
    rows, columns = (np.repeat(np.outer(np.arange(n) / n * span, frequencies), 2, axis=1) for n in grid)
    h, w = grid
    angles = np.concatenate(
        [np.broadcast_to(rows[:, None], (h, w, dim)), np.broadcast_to(columns[None], (h, w, dim))], axis=-1
    ).reshape(h * w, head_dim)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def rotate(x, cos: np.ndarray, sin: np.ndarray):
    """Rotate neighbouring channel pairs of the last `len(cos)` tokens of x [B, N, heads, hd]; tokens before them (class, registers,
    prompts) stay. Computed in float32.

    (x0, x1) -> (x0 cos - x1 sin, x1 cos + x0 sin), written with shifts so that no array has a minor axis of two.
    """
    front = x.shape[1] - cos.shape[0]
    even = np.arange(cos.shape[1]) % 2 == 0
    from_right, from_left = np.where(even, -sin, 0.0), np.where(even, 0.0, sin)
    ones, zeros = np.ones((front, cos.shape[1]), np.float32), np.zeros((front, cos.shape[1]), np.float32)
    cos = np.concatenate([ones, cos])[:, None]
    from_right, from_left = (np.concatenate([zeros, part.astype(np.float32)])[:, None] for part in (from_right, from_left))
    wide = x.astype(jnp.float32)
    turned = wide * cos + jnp.roll(wide, -1, axis=-1) * from_right + jnp.roll(wide, 1, axis=-1) * from_left
    return turned.astype(x.dtype)

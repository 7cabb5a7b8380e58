"""Two-dimensional rotary positions as EVA-02 and DINOv3 use them."""

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


@lru_cache(maxsize=32)
def axial_tables(
    grid: tuple[int, int], head_dim: int, base: float = 100.0, periods: str = "float32"
) -> tuple[np.ndarray, np.ndarray]:
    """DINOv3's (cos, sin) of the angles of every patch, float32 [h * w, head_dim]: row and column angles, then both once more.

    Patch centres run from -1 to 1 along each side whatever the number of patches; period k is base ** (4 k / head_dim). `periods` is the
    type these are rounded to, float32 or bfloat16.
    """
    steps = base ** (np.arange(head_dim // 4, dtype=np.float64) * 4 / head_dim)
    steps = steps.astype(np.float32).astype(jnp.dtype(periods)).astype(np.float64)
    rows, columns = (2 * np.pi * (2 * (np.arange(n) + 0.5) / n - 1)[:, None] / steps for n in grid)
    h, w = grid
    angles = np.concatenate([np.repeat(rows, w, axis=0), np.tile(columns, (h, 1))], axis=1)
    angles = np.concatenate([angles, angles], axis=1)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def rotate(x, cos: np.ndarray, sin: np.ndarray):
    """Rotate neighbouring channel pairs of the last `len(cos)` tokens of x [B, N, heads, hd]; tokens before them (class, registers,
    prompts) stay. Computed in float32.

    (x0, x1) -> (x0 cos - x1 sin, x1 cos + x0 sin), written with shifts so that no array has a minor axis of two.
    """
    even = np.arange(cos.shape[1]) % 2 == 0
    return _turned(x, cos, (-1, np.where(even, -sin, 0.0)), (1, np.where(even, 0.0, sin)))


def rotate_halves(x, cos: np.ndarray, sin: np.ndarray):
    """As `rotate`, for pairs of a channel of the first half and the one in its place in the second."""
    half = cos.shape[1] // 2
    return _turned(x, cos, (half, np.concatenate([-sin[:, :half], sin[:, half:]], axis=1)))


def _turned(x, cos: np.ndarray, *shifted: tuple[int, np.ndarray]):
    """x times cos plus x shifted along its channels times each table; tokens before the tables' stay."""
    front = ((x.shape[1] - cos.shape[0], 0), (0, 0))
    wide = x.astype(jnp.float32)
    turned = wide * np.pad(cos, front, constant_values=1)[:, None]
    for shift, table in shifted:
        turned = turned + jnp.roll(wide, shift, axis=-1) * np.pad(table.astype(np.float32), front)[:, None]
    return turned.astype(x.dtype)

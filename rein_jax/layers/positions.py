"""Sine position encoding of feature maps (DETR, as in mmdet's SinePositionalEncoding with `normalize=True`)."""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np


@lru_cache(maxsize=64)
def _axis(length: int, channels: int, temperature: float = 10_000.0) -> np.ndarray:
    """Float32 [length, channels]: positions 1..n scaled to (0, 2 pi], sine on even channels and cosine on odd ones."""
    position = np.arange(1, length + 1, dtype=np.float64) / (length + 1e-6) * 2 * np.pi
    k = np.arange(channels)
    angle = position[:, None] / temperature ** (2 * (k // 2) / channels)
    return np.where(k % 2 == 0, np.sin(angle), np.cos(angle)).astype(np.float32)


def sine_positions(height: int, width: int, channels: int, dtype=jnp.float32) -> jax.Array:
    """[height, width, channels]: the first half of the channels encodes y, the second half x."""
    if channels % 4:
        raise ValueError(f"channels ({channels}) must be a multiple of 4")
    y, x = jnp.asarray(_axis(height, channels // 2), dtype), jnp.asarray(_axis(width, channels // 2), dtype)
    shape = (height, width, channels // 2)
    return jnp.concatenate([jnp.broadcast_to(y[:, None], shape), jnp.broadcast_to(x[None], shape)], axis=-1)

"""Which pixels of a padded batch are real."""

from __future__ import annotations

import jax.numpy as jnp


def real_pixels(batch) -> jnp.ndarray:
    """[B, H, W, 1] float32: 1 where the crop holds image, 0 where it was padded (batch["size"] = height, width of the real part)."""
    b, h, w = batch["image"].shape[:3]
    if batch.get("size") is None:
        return jnp.ones((b, h, w, 1), jnp.float32)
    return inside(batch["size"], h, w).astype(jnp.float32)


def inside(size, height: int, width: int) -> jnp.ndarray:
    """Bool [B, height, width, 1]: the pixels of the top left part of each image; size int [B, 2], its height and width."""
    rows = jnp.arange(height)[None, :] < size[:, :1]
    columns = jnp.arange(width)[None, :] < size[:, 1:]
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def filled(x, mask):
    """x with the mean of each image's real pixels in its padding, so that the padding's edge is no edge of the image."""
    mean, _ = channel_statistics(x, mask)
    return jnp.where(mask > 0, x, mean)


def channel_statistics(x, mask):
    """Mean and unbiased standard deviation of each image's channels over the real pixels, [B, 1, 1, C] each."""
    n = jnp.maximum(mask.sum((1, 2), keepdims=True), 2.0)
    mean = (x * mask).sum((1, 2), keepdims=True) / n
    variance = (jnp.square(x - mean) * mask).sum((1, 2), keepdims=True) / (n - 1.0)
    return mean, jnp.sqrt(variance)

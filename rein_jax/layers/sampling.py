"""Bilinear reading of maps at arbitrary points: torch's `grid_sample(padding_mode="zeros", align_corners=False)`.

One definition of corners and weights serves deformable attention and the point sampling of the mask loss.
Points are (x, y) in [0, 1] of the map's width and height; everything outside the map reads as zero.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def corners(points: jax.Array, height, width) -> tuple[jax.Array, jax.Array]:
    """The four neighbours of each point: (flat index y * width + x int32, weight), each points.shape[:-1] + (4,).

    points [..., 2] float32; height and width: numbers, or arrays that broadcast against points[..., 0] (a map a point).
    Indices are always inside the map; a neighbour outside it has weight 0.
    """
    height, width = (np.asarray(n, np.int32)[..., None] for n in (height, width))
    x = points[..., 0:1] * width.astype(np.float32) - 0.5
    y = points[..., 1:2] * height.astype(np.float32) - 0.5
    left, top = jnp.floor(x), jnp.floor(y)
    right, down = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    weight = jnp.where(right, x - left, 1 - (x - left)) * jnp.where(down, y - top, 1 - (y - top))
    # Far-away or NaN coordinates must not reach the conversion to integers, where they would be undefined.
    column = jnp.nan_to_num(jnp.clip(left, -2.0, width)).astype(jnp.int32) + right.astype(np.int32)
    row = jnp.nan_to_num(jnp.clip(top, -2.0, height)).astype(jnp.int32) + down.astype(np.int32)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1), jnp.where(inside, weight, 0.0)


def take(table: jax.Array, index: jax.Array) -> jax.Array:
    """Rows of a table by indices known to be valid: [..., *table.shape[1:]]."""
    return table.at[index].get(mode="promise_in_bounds")


def sample(maps: jax.Array, points: jax.Array) -> jax.Array:
    """Each map read at its own points: maps [..., H, W], points [..., n, 2] with the same leading axes -> [..., n]."""
    height, width = maps.shape[-2:]
    table = maps.reshape(-1)
    first = _first_rows(maps.shape[:-2], height * width)
    index, weight = corners(points, height, width)
    return jnp.sum(take(table, first + index) * weight.astype(maps.dtype), axis=-1)


def sample_vectors(maps: jax.Array, points: jax.Array) -> jax.Array:
    """Maps of vectors read at points shared by all channels: [..., H, W, C], [..., n, 2] -> [..., n, C]."""
    height, width, channels = maps.shape[-3:]
    table = maps.reshape(-1, channels)
    first = _first_rows(maps.shape[:-3], height * width)
    index, weight = corners(points, height, width)
    return jnp.einsum("...k,...kc->...c", weight.astype(maps.dtype), take(table, first + index))


def _first_rows(lead: tuple[int, ...], rows: int) -> jax.Array:
    """Row of the table at which each map begins, with two last axes to add to points and corners."""
    count = 1
    for n in lead:
        count *= n
    return (jnp.arange(count, dtype=jnp.int32) * rows).reshape(*lead, 1, 1)

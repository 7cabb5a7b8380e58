"""Bilinear reading of maps at arbitrary points: torch's `grid_sample(padding_mode="zeros", align_corners=False)`.

One definition of corners and weights serves deformable attention and the point sampling of the mask loss.
Points are (x, y) in [0, 1] of the map's width and height; everything outside the map reads as zero.
"""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp


def corners(points: jax.Array, height: int, width: int) -> Iterator[tuple[jax.Array, jax.Array]]:
    """The four neighbours of each point: (flat index y * width + x, weight), each with the shape of points[..., 0].

    points [..., 2] float32. Indices are always inside the map; a neighbour outside it has weight 0.
    """
    x = points[..., 0] * width - 0.5
    y = points[..., 1] * height - 0.5
    left, top = jnp.floor(x), jnp.floor(y)
    fx, fy = x - left, y - top
    # Far-away or NaN coordinates must not reach the conversion to integers, where they would be undefined.
    column, row = (jnp.nan_to_num(jnp.clip(v, -2.0, n)).astype(jnp.int32) for v, n in ((left, width), (top, height)))
    for dy in (0, 1):
        for dx in (0, 1):
            c, r = column + dx, row + dy
            inside = (c >= 0) & (c < width) & (r >= 0) & (r < height)
            weight = (fx if dx else 1 - fx) * (fy if dy else 1 - fy)
            yield jnp.clip(r, 0, height - 1) * width + jnp.clip(c, 0, width - 1), jnp.where(inside, weight, 0.0)


def take(table: jax.Array, index: jax.Array) -> jax.Array:
    """Rows of a table by indices known to be valid: [..., *table.shape[1:]]."""
    return table.at[index].get(mode="promise_in_bounds")


def sample(maps: jax.Array, points: jax.Array) -> jax.Array:
    """Each map read at its own points: maps [..., H, W], points [..., n, 2] with the same leading axes -> [..., n]."""
    height, width = maps.shape[-2:]
    table = maps.reshape(-1)
    first = _first_rows(maps.shape[:-2], height * width)
    return sum(take(table, first + index) * weight.astype(maps.dtype) for index, weight in corners(points, height, width))


def sample_vectors(maps: jax.Array, points: jax.Array) -> jax.Array:
    """Maps of vectors read at points shared by all channels: [..., H, W, C], [..., n, 2] -> [..., n, C]."""
    height, width, channels = maps.shape[-3:]
    table = maps.reshape(-1, channels)
    first = _first_rows(maps.shape[:-3], height * width)
    return sum(take(table, first + index) * weight[..., None].astype(maps.dtype)
               for index, weight in corners(points, height, width))


def _first_rows(lead: tuple[int, ...], rows: int) -> jax.Array:
    """Row of the table at which each map begins, with a last axis to add to the points."""
    count = 1
    for n in lead:
        count *= n
    return (jnp.arange(count, dtype=jnp.int32) * rows).reshape(*lead, 1)

"""Bilinear reading of maps at arbitrary points: torch's `grid_sample(padding_mode="zeros", align_corners=False)`.

One definition of corners and weights serves deformable attention and the point sampling of the mask loss.
Points are (x, y) in [0, 1] of the map's width and height; everything outside the map reads as zero.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Neighbours(NamedTuple):
    """The two positions of an axis next to each point, near side first; every entry has the points' shape."""

    index: tuple[jax.Array, jax.Array]  # int32, always valid, outside the axis too
    inside: tuple[jax.Array, jax.Array]  # bool
    weight: tuple[jax.Array, jax.Array]  # linear weights, zero outside


def neighbours(points: jax.Array, n) -> Neighbours:
    """points: float32 in [0, 1] of an axis of n positions (a number, or an array that broadcasts against the points)."""
    n = np.asarray(n, np.int32)
    position = points * n.astype(np.float32) - 0.5
    near = jnp.floor(position)
    fraction = position - near
    # Far-away or NaN coordinates must not reach the conversion to integers, where they would be undefined.
    first = jnp.nan_to_num(jnp.clip(near, -2.0, n)).astype(jnp.int32)
    inside = tuple((i >= 0) & (i < n) for i in (first, first + 1))
    weight = tuple(jnp.where(ok, w, 0.0) for ok, w in zip(inside, (1 - fraction, fraction), strict=True))
    return Neighbours(tuple(jnp.clip(i, 0, n - 1) for i in (first, first + 1)), inside, weight)


def corners(points: jax.Array, height: int, width: int) -> list[tuple[jax.Array, jax.Array]]:
    """The four neighbours of points [..., 2]: (flat index y * width + x int32 [...], weight [...], zero outside the map).

    Four arrays, not one with a last axis of four: TPUs pad such an axis to 128 and CPUs do not vectorise along it.
    """
    x, y = neighbours(points[..., 0], width), neighbours(points[..., 1], height)
    return [(i * width + j, v * w) for i, v in zip(y.index, y.weight, strict=True) for j, w in zip(x.index, x.weight, strict=True)]


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
    return sum(take(table, first + index) * weight.astype(maps.dtype)[..., None] for index, weight in corners(points, height, width))


def _first_rows(lead: tuple[int, ...], rows: int) -> jax.Array:
    """Row of the table at which each map begins, with a last axis to add to the points' rows."""
    count = 1
    for n in lead:
        count *= n
    return (jnp.arange(count, dtype=jnp.int32) * rows).reshape(*lead, 1)

"""Maps read at many points on a TPU without gathers of single numbers, or scatters in the gradient: products in Pallas kernels.

As in `deformable_tpu.py` a bilinear sample is a product with two hat functions, one an axis. For 128 points along lanes V[y, x] times the
hats of x is a matrix product; the sum over y is taken with the hats of y. Nothing but the values read leaves the chip's fast memory.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from rein_jax.kernels.deformable_tpu import LANES, hats, product
from rein_jax.kernels.platforms import kernel_memory

SIDE = 512  # longest side of a map for which products pay


def suits(maps: jax.Array, points: jax.Array, memory: int) -> bool:
    """Whether the kernels take these arrays, within a quarter of a fast memory of so many bytes."""
    height, width = maps.shape[-2:]
    static = all(isinstance(n, int) for n in (*maps.shape, *points.shape))
    return static and max(height, width) <= SIDE and 8 * (3 * points.shape[-2] + 3 * height * width) <= memory // 4


def read_by_products(maps: jax.Array, points: jax.Array) -> jax.Array:
    """The form "products" of `reading.read`."""
    (height, width), count = maps.shape[-2:], points.shape[-2]
    points = jnp.pad(points, (*((0, 0),) * (points.ndim - 2), (0, -count % LANES), (0, 0)))

    def tiles(place, size):  # [..., n] -> [maps, tiles, LANES], in pixels
        return (place * size - 0.5).reshape(math.prod(maps.shape[:-2]), -1, LANES)

    values = _read(maps.reshape(-1, height, width), tiles(points[..., 0], width), tiles(points[..., 1], height))
    return values.reshape(*points.shape[:-1])[..., :count].astype(maps.dtype)


@jax.custom_vjp
def _read(maps: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """maps [M, H, W]; x and y [M, tiles, LANES] -> float32 [M, tiles, LANES]."""
    return _run(_forward_kernel, jax.ShapeDtypeStruct(x.shape, jnp.float32), maps, x, y)


def _backward(saved, gradient):
    like, x, y = saved
    of_maps = _run(_backward_kernel, jax.ShapeDtypeStruct(like.shape, jnp.float32), gradient, x, y)
    return of_maps.astype(like.dtype), jnp.zeros_like(x), jnp.zeros_like(y)


_read.defvjp(lambda maps, x, y: (_read(maps, x, y), (maps, x, y)), _backward)


def _run(kernel, result, *arguments):
    """A kernel over maps; on anything but a TPU its interpretation."""
    spec = lambda a: pl.BlockSpec((None, *a.shape[1:]), lambda m: (m, 0, 0))
    call = partial(pl.pallas_call, kernel, grid=(result.shape[0],), out_shape=result, in_specs=[spec(a) for a in arguments],
                   out_specs=spec(result), compiler_params=pltpu.CompilerParams(vmem_limit_bytes=kernel_memory() * 7 // 8 or None))
    return jax.lax.platform_dependent(*arguments, tpu=call(), default=call(interpret=True))


def _over_tiles(x, function) -> None:
    tiles = x.shape[0]
    jax.lax.fori_loop(0, tiles, lambda t, _: function(pl.ds(t, 1)), None, unroll=math.gcd(tiles, 2))


def _forward_kernel(maps, x, y, values):
    table = maps[...].astype(jnp.float32)
    height, width = table.shape

    def tile(row):
        rows = product(table, hats(x[row, :], width))
        values[row, :] = jnp.sum(rows * hats(y[row, :], height), axis=0, keepdims=True)

    _over_tiles(x, tile)


def _backward_kernel(gradient, x, y, of_maps):
    of_maps[...] = jnp.zeros_like(of_maps)
    height, width = of_maps.shape

    def tile(row):
        of_maps[...] += product(hats(y[row, :], height) * gradient[row, :], hats(x[row, :], width), over=(1, 1))

    _over_tiles(x, tile)

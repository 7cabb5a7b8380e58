"""Deformable attention on a TPU without gathers, sorts or scatters: products with hat functions, in Pallas kernels.

A bilinear sample is a product with two hat functions, hat(t) = max(0, 1 - |t|): the sum over y and x of hat(y - py) hat(x - px) V[y, x].
So the weighted sum of a query's samples of a level is A V with A[q, yx] = sum over points of w hat(y - py) hat(x - px): arithmetic that a
TPU does hundreds of times as fast as it reads rows. A is as large as the probabilities of ordinary attention and, as flash attention
keeps those, never leaves the chip's fast memory: a kernel makes it for some queries of one head, multiplies and forgets it. The backward
kernel makes it again, beside its gradient G = dO V, from which the gradients of the hats' places are sums over rows.

Queries lie along lanes, so that a hat of one row y is a vector to multiply with, and nothing is turned around.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from rein_jax.kernels.platforms import kernel_memory, per_device

LANES = 128  # queries at a time
PACK = 16  # rows of bfloat16 in a register: widths are filled up to it


class _Level(NamedTuple):
    """A map whose width is filled up, and where its rows begin among those of all levels."""

    height: int
    width: int
    start: int


def suits(value: jax.Array, sizes: Sequence[tuple[int, int]], points: int, memory: int) -> bool:
    """Whether the kernels' arrays fit three quarters of a fast memory of so many bytes."""
    levels = _levels(sizes)
    rows, widest = levels[-1].start + levels[-1].height * levels[-1].width, max(max(level[:2]) for level in levels)
    channels, width = value.shape[-1], value.dtype.itemsize
    lanes = -(-channels // 128) * 128
    # Products and hats once; the maps, and their gradient in float32, twice, since the next ones are fetched meanwhile.
    return rows * ((4 + width) * LANES + 2 * width * lanes + 8 * channels) + 20 * points * widest * LANES <= memory * 3 // 4


def hat_products(value, sizes, locations, weights, low_memory):
    """The form "hats" of `deformable.deformable_sum`; `low_memory` changes nothing."""
    levels, (batch, queries, heads, _, points, _) = _levels(sizes), locations.shape
    short = -queries % LANES

    def in_lanes(a):  # [B, N, heads, levels, points] -> [B, heads, levels * points, N filled up]
        a = jnp.pad(a.astype(jnp.float32), ((0, 0), (0, short), *((0, 0),) * 3))
        return a.transpose(0, 2, 3, 4, 1).reshape(batch, heads, -1, queries + short)

    pixels = np.asarray([(w, h) for h, w in sizes], np.float32)[:, None]
    place = locations * pixels - 0.5
    call = per_device(partial(_hats, tuple(levels), points))
    result = call(_filled(value, sizes, levels), in_lanes(place[..., 0]), in_lanes(place[..., 1]), in_lanes(weights))
    return result[..., :queries].transpose(0, 3, 1, 2).astype(value.dtype)


def _levels(sizes: Sequence[tuple[int, int]]) -> list[_Level]:
    widths = [-(-width // PACK) * PACK for _, width in sizes]
    starts = np.cumsum([0, *(height * width for (height, _), width in zip(sizes, widths, strict=True))])
    return [_Level(height, width, int(start)) for (height, _), width, start in zip(sizes, widths, starts, strict=False)]


def _filled(value: jax.Array, sizes: Sequence[tuple[int, int]], levels: Sequence[_Level]) -> jax.Array:
    """[B, S, heads, c] -> [B, heads, rows, c], maps filled up with columns of zeros, which the hats may then touch as they like."""
    parts, start = [], 0
    for (height, width), level in zip(sizes, levels, strict=True):
        part = value[:, start:start + height * width].reshape(value.shape[0], height, width, *value.shape[2:])
        part = jnp.pad(part, ((0, 0), (0, 0), (0, level.width - width), (0, 0), (0, 0)))
        parts.append(part.reshape(value.shape[0], -1, *value.shape[2:]))
        start += height * width
    return jnp.concatenate(parts, axis=1).swapaxes(1, 2)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _hats(levels: tuple[_Level, ...], points: int, value: jax.Array, x: jax.Array, y: jax.Array, weight: jax.Array) -> jax.Array:
    """value [B, heads, rows, c]; x, y (in pixels) and weight [B, heads, levels * points, N] -> [B, heads, c, N], float32."""
    result = jax.ShapeDtypeStruct((*value.shape[:2], value.shape[3], x.shape[3]), jnp.float32)
    return _run(partial(_forward_kernel, levels, points), levels, points, (value.swapaxes(2, 3), x, y, weight), (result,),
                ("whole", *["lanes"] * 3), ("lanes",))[0]


def _forward(levels, points, *inputs):
    return _hats(levels, points, *inputs), inputs


def _backward(levels, points, saved, gradient):
    value, x, y, weight = saved
    gradient = gradient.astype(value.dtype)
    results = tuple(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (value.swapaxes(2, 3).shape, *[x.shape] * 3))
    of_value, *others = _run(partial(_backward_kernel, levels, points), levels, points, (value, gradient, x, y, weight), results,
                             ("whole", *["lanes"] * 4), ("whole", *["lanes"] * 3))
    return of_value.swapaxes(2, 3).astype(value.dtype), *others


_hats.defvjp(_forward, _backward)


def _run(kernel, levels, points, arguments, results, inputs: Sequence[str], outputs: Sequence[str]):
    """A kernel over images, heads and tiles of queries; on anything but a TPU its interpretation.

    inputs, outputs: "whole" for an array that all tiles of a head share, "lanes" for one with queries along its last axis.
    """
    batch, heads = arguments[0].shape[:2]
    queries = arguments[-1].shape[3]
    size, last = max(max(level[:2]) for level in levels), levels[-1]
    rows, dtype = last.start + last.height * last.width, arguments[0].dtype

    def spec(array, way):
        if way == "whole":
            return pl.BlockSpec((None, None, *array.shape[2:]), lambda b, h, i: (b, h, 0, 0))
        return pl.BlockSpec((None, None, array.shape[2], LANES), lambda b, h, i: (b, h, 0, i))

    made = [pltpu.VMEM((points, size, LANES), jnp.float32) for _ in range(2 if len(results) == 1 else 5)]
    scratch = [pltpu.VMEM((rows, LANES), dtype), *([] if len(results) == 1 else [pltpu.VMEM((rows, LANES), jnp.float32)]), *made]
    call = partial(pl.pallas_call, kernel, grid=(batch, heads, queries // LANES), out_shape=results,
                   in_specs=[spec(*each) for each in zip(arguments, inputs, strict=True)],
                   out_specs=tuple(spec(*each) for each in zip(results, outputs, strict=True)), scratch_shapes=scratch,
                   compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary"),
                                                        vmem_limit_bytes=kernel_memory() * 7 // 8 or None))
    return jax.lax.platform_dependent(*arguments, tpu=call(), default=call(interpret=True))


def product(a: jax.Array, b: jax.Array, over: tuple[int, int] = (1, 0)) -> jax.Array:
    """The product over these axes of a and of b in float32, exact where they are."""
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    return jax.lax.dot_general(a, b, (([over[0]], [over[1]]), ([], [])), precision=precision, preferred_element_type=jnp.float32)


def _distance(place: jax.Array, size: int) -> jax.Array:
    """From each place, [1, LANES], to the positions of an axis: [size, LANES]."""
    return jax.lax.broadcasted_iota(jnp.int32, (size, LANES), 0).astype(jnp.float32) - place


def hats(place: jax.Array, size: int) -> jax.Array:
    """Of each place, [1, LANES], at the positions of an axis: [size, LANES]."""
    return _hat(_distance(place, size))


def _hat(distance: jax.Array) -> jax.Array:
    return jnp.maximum(1.0 - jnp.abs(distance), 0.0)


def _slope(distance: jax.Array) -> jax.Array:
    """The hat's derivative by the place; at a position itself the one towards larger places, as that of `sampling.neighbours`."""
    return jnp.where((distance > 0) & (distance <= 1), 1.0, jnp.where((distance > -1) & (distance <= 0), -1.0, 0.0))


def _chunk(width: int) -> int:
    """Columns at a time: sums over rows of so many, for all points, fit the registers."""
    return 2 * PACK if width % (2 * PACK) == 0 else PACK


def _forward_kernel(levels, points, value, x, y, weight, result, a, across, down):
    for number, (height, width, start) in enumerate(levels):
        for p in range(points):
            row = pl.ds(number * points + p, 1)
            across[p, :width] = hats(x[row, :], width)
            down[p, :height] = hats(y[row, :], height) * weight[row, :]
        for first in range(0, width, _chunk(width)):
            columns = [across[p, pl.ds(first, _chunk(width))] for p in range(points)]

            def line(j, _, columns=columns, first=first, width=width, start=start):
                total = sum(columns[p] * down[p, pl.ds(j, 1)] for p in range(points))
                a[pl.ds(pl.multiple_of(start + j * width + first, PACK), _chunk(width)), :] = total.astype(a.dtype)
                return 0

            jax.lax.fori_loop(0, height, line, 0, unroll=math.gcd(height, 4))
    result[...] = product(value[...], a[...])


def _backward_kernel(levels, points, value, gradient, x, y, weight, of_value, of_x, of_y, of_weight,
                     a, of_a, across, across_slope, down, down_slope, down_weighted):
    of_a[...] = product(value[...], gradient[...])
    for number, (height, width, start) in enumerate(levels):
        for p in range(points):
            row = pl.ds(number * points + p, 1)
            horizontal, vertical = _distance(x[row, :], width), _distance(y[row, :], height)
            across[p, :width], across_slope[p, :width] = _hat(horizontal), _slope(horizontal)
            down[p, :height], down_slope[p, :height] = _hat(vertical), _slope(vertical)
            down_weighted[p, :height] = _hat(vertical) * weight[row, :]
        sums = [[0.0] * 3 for _ in range(points)]
        chunk = _chunk(width)
        for first in range(0, width, chunk):
            columns = [across[p, pl.ds(first, chunk)] for p in range(points)]

            def line(j, totals, columns=columns, first=first, width=width, start=start, chunk=chunk):
                here = pl.ds(pl.multiple_of(start + j * width + first, PACK), chunk)
                one = of_a[here, :]
                a[here, :] = sum(columns[p] * down_weighted[p, pl.ds(j, 1)] for p in range(points)).astype(a.dtype)
                return tuple((flat + one * down[p, pl.ds(j, 1)], steep + one * down_slope[p, pl.ds(j, 1)])
                             for p, (flat, steep) in enumerate(totals))

            nothing = jnp.zeros((chunk, LANES), jnp.float32)
            totals = jax.lax.fori_loop(0, height, line, ((nothing, nothing),) * points, unroll=math.gcd(height, 2))
            for p, (flat, steep) in enumerate(totals):
                terms = (across_slope[p, pl.ds(first, chunk)] * flat, columns[p] * steep, columns[p] * flat)
                sums[p] = [total + term.sum(axis=0, keepdims=True) for total, term in zip(sums[p], terms, strict=True)]
        for p, (by_x, by_y, by_weight) in enumerate(sums):
            row = pl.ds(number * points + p, 1)
            of_x[row, :], of_y[row, :], of_weight[row, :] = by_x * weight[row, :], by_y * weight[row, :], by_weight

    @pl.when(pl.program_id(2) == 0)
    def _():
        of_value[...] = jnp.zeros_like(of_value)

    of_value[...] += product(gradient[...], a[...], over=(1, 1))

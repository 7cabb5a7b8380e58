"""Bilinear resizing of one axis by a ratio p/q, where p outputs for every q inputs repeat their weights."""

from __future__ import annotations

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np

from rein_jax.kernels.platforms import target

_DENSE = 256  # longest axis that a TPU resizes by a product


def resize_by_ratio(x: jax.Array, axis: int, weights: np.ndarray, ratio: tuple[int, int]) -> jax.Array:
    """The axis of a float32 or float64 array resized by p/q.

    Args:
        x: any shape.
        axis: of x.
        weights: [outputs, inputs], the matrix that resizes the axis.
        ratio: (p, q); p divides the number of outputs.
    """
    return FORMS["reference" if target() == "tpu" and x.shape[axis] <= _DENSE else "slices"](x, axis, weights, ratio)


def _reference(x, axis, weights, ratio):
    """A product: on a TPU, whose matrix unit it hardly keeps busy, quicker than slices laid between one another along a tiled axis."""
    weights = jnp.asarray(weights, x.dtype)
    y = jax.lax.dot_general(weights, x, (((1,), (axis,)), ((), ())), precision=jax.lax.Precision.HIGHEST)
    return jnp.moveaxis(y, 0, axis)


def _slices(x, axis, weights, ratio):
    """Weighted strided slices: no gather, no product, and a cheap gradient."""
    (p, q), out = ratio, len(weights)
    x = jnp.moveaxis(x, axis, 0)
    groups = out // p
    starts = [(Fraction(2 * r + 1, 2) * q / p - Fraction(1, 2)) for r in range(p)]
    before = 1 if starts[0] < 0 else 0
    after = max(0, (groups - 1) * q + int(starts[-1] // 1) + 2 - x.shape[0])
    x = jnp.concatenate([x[:1]] * before + [x] + [x[-1:]] * after, axis=0)

    def sliced(first):
        return jax.lax.slice_in_dim(x, first, first + (groups - 1) * q + 1, q, axis=0)

    parts = []
    for start in starts:
        first, t = int(start // 1), float(start % 1)
        part = sliced(first + before)
        parts.append(part * (1 - t) + sliced(first + before + 1) * t if t else part)
    y = jnp.stack(parts, axis=1).reshape(out, *x.shape[1:]) if p > 1 else parts[0]
    return jnp.moveaxis(y, 0, axis)


FORMS = {"reference": _reference, "slices": _slices}

"""Resizing that equals PyTorch's `F.interpolate` without antialiasing, in NumPy (loading) and in jit (features, logits).

`jax.image.resize` differs in three ways: it antialiases when shrinking, its cubic kernel has a = -0.5 and it renormalises
at the borders. Here a one-dimensional weight matrix per axis says exactly what torch does: half-pixel centres
(`align_corners=False`), replicated borders, Keys' kernel with a = -0.75 for "bicubic". The sampling step is `in / out`
(torch's `size=`), or `1 / factor` when a scale factor is given (torch's `scale_factor=`), rounded to float32 as torch does.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from rein_jax.kernels.resize import resize_by_ratio

KINDS = ("nearest", "bilinear", "bicubic")
_PHASES = 8  # largest number of output phases unrolled into strided slices
_DENSE = 256  # longest input axis that is resized by a matrix product


def _cubic(t: np.ndarray, a: float = -0.75) -> np.ndarray:
    """Weights of the four neighbours of a point at fraction t after the second one; [..., 4] (Keys 1981)."""
    near = [((a + 2) * s - (a + 3)) * s * s + 1 for s in (t, 1 - t)]
    far = [((a * s - 5 * a) * s + 8 * a) * s - 4 * a for s in (t + 1, 2 - t)]
    return np.stack([far[0], near[0], near[1], far[1]], axis=-1)


@lru_cache(maxsize=256)
def taps(n: int, out: int, kind: str, factor: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(indices [out, k], float32 weights [out, k]) of the inputs that make each output of an axis of length n."""
    if kind not in KINDS:
        raise ValueError(f"unknown interpolation {kind!r}; known: {', '.join(KINDS)}")
    step = np.float32(1.0 / factor) if factor is not None else np.float32(n) / np.float32(out)
    place = np.arange(out, dtype=np.float32)
    if kind == "nearest":
        index = np.minimum(np.floor(place * step).astype(np.int64), n - 1)
        return index[:, None], np.ones((out, 1), np.float32)
    centre = step * (place + np.float32(0.5)) - np.float32(0.5)
    if kind == "bilinear":
        centre = np.maximum(centre, np.float32(0))
    first = np.floor(centre)
    t = (centre - first).astype(np.float64)
    if kind == "bilinear":
        index, weight = first[:, None] + np.arange(2), np.stack([1 - t, t], axis=-1)
    else:
        index, weight = first[:, None] + np.arange(-1, 3), _cubic(t)
    return np.clip(index, 0, n - 1).astype(np.int64), weight.astype(np.float32)


@lru_cache(maxsize=64)
def matrix(n: int, out: int, kind: str, factor: float | None = None) -> np.ndarray:
    """The float32 matrix [out, n] that resizes one axis."""
    index, weight = taps(n, out, kind, factor)
    dense = np.zeros((out, n), np.float32)
    np.add.at(dense, (np.arange(out)[:, None], index), weight)
    return dense


def resize_numpy(
    array: np.ndarray, size: Sequence[int], kind: str, axes: Sequence[int] = (1, 2), factors: Sequence[float] | None = None
) -> np.ndarray:
    """A NumPy array with the given axes resized, computed in float64 and returned in the array's dtype."""
    result = np.asarray(array)
    for k, (axis, out) in enumerate(zip(axes, size, strict=True)):
        if factors is None and result.shape[axis] == out:
            continue
        weights = matrix(result.shape[axis], out, kind, None if factors is None else float(factors[k]))
        result = np.moveaxis(np.moveaxis(result.astype(np.float64), axis, -1) @ weights.T.astype(np.float64), -1, axis)
    return np.ascontiguousarray(result.astype(array.dtype))


def _phases(n: int, out: int, factor: float | None) -> tuple[int, int] | None:
    """(p, q) when p outputs per q inputs repeat exactly, p a small power of two; None when they do not."""
    ratio = Fraction(out, n) if factor is None else Fraction(factor).limit_denominator(_PHASES)
    if factor is not None and float(ratio) != factor:
        return None
    p, q = ratio.numerator, ratio.denominator
    return (p, q) if p <= _PHASES and p & (p - 1) == 0 and out % p == 0 else None


def _resize_axis(x: jax.Array, axis: int, out: int, kind: str, factor: float | None) -> jax.Array:
    """One axis of a float32 (or float64) array resized."""
    n = x.shape[axis]
    phases = _phases(n, out, factor) if kind == "bilinear" else None
    if phases:
        return resize_by_ratio(x, axis, matrix(n, out, kind, factor), phases)
    if n <= _DENSE:
        weights = jnp.asarray(matrix(n, out, kind, factor), x.dtype)
        y = jax.lax.dot_general(weights, x, (((1,), (axis,)), ((), ())), precision=jax.lax.Precision.HIGHEST)
        return jnp.moveaxis(y, 0, axis)
    index, weight = taps(n, out, kind, factor)
    shape = [-1 if a == axis else 1 for a in range(x.ndim)]
    return sum(jnp.take(x, index[:, k], axis=axis) * weight[:, k].reshape(shape) for k in range(index.shape[1]))


def resize(
    x: jax.Array,
    size: Sequence[int],
    kind: str = "bilinear",
    axes: Sequence[int] = (1, 2),
    factors: Sequence[float] | None = None,
) -> jax.Array:
    """The array with the given axes resized; for use inside jit, differentiable, same dtype (computed in float32).

    x: any shape, e.g. [B, H, W, C] with axes (1, 2). size: new lengths of the axes. factors: torch's `scale_factor` per
    axis, used for the sampling step in place of in/out (`size` must still be given).
    """
    work = x.dtype if x.dtype == jnp.float64 else jnp.float32
    y = x.astype(work)
    plan = [(axis % x.ndim, int(out), None if factors is None else float(factors[k]))
            for k, (axis, out) in enumerate(zip(axes, size, strict=True))]
    # Shrinking axes first leaves less to do for the growing ones.
    for axis, out, factor in sorted(plan, key=lambda p: p[1] / x.shape[p[0]]):
        if out != x.shape[axis] or factor not in (None, 1.0):
            y = _resize_axis(y, axis, out, kind, factor)
    return y.astype(x.dtype)


def bilinear(x: jax.Array, size: Sequence[int], axes: Sequence[int] = (1, 2)) -> jax.Array:
    """`F.interpolate(x, size=size, mode="bilinear", align_corners=False)` on [B, H, W, C] (or other axes)."""
    return resize(x, size, "bilinear", axes)


def bilinear_by(x: jax.Array, factor: float, axes: Sequence[int] = (1, 2)) -> jax.Array:
    """`F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)`: output floor(n * factor).

    Differs from `bilinear` where n * factor is not whole: the sampling step stays 1 / factor.
    """
    return resize(x, [int(x.shape[axis] * factor) for axis in axes], "bilinear", axes, [factor] * len(axes))


def bicubic(
    x: jax.Array, size: Sequence[int], axes: Sequence[int] = (1, 2), factors: Sequence[float] | None = None
) -> jax.Array:
    """`F.interpolate(mode="bicubic", align_corners=False, antialias=False)` on [B, H, W, C] (or other axes)."""
    return resize(x, size, "bicubic", axes, factors)


def offset_factors(grid: Sequence[int], size: Sequence[int], offset: float) -> tuple[float, ...] | None:
    """Scale factors `(size + offset) / grid` of DINOv2's position embedding; None (exact ratio) when offset is 0."""
    return tuple((s + offset) / g for s, g in zip(size, grid, strict=True)) if offset else None

"""Convolutions and batch normalisation as PyTorch does them, on [B, H, W, C]."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx


def conv(
    inner: int, outer: int, kernel: int, *, stride=1, dilation=1, groups=1, bias=False, padding: int | None = None, rngs: nnx.Rngs
) -> nnx.Conv:  # fmt: skip
    """A square convolution padded evenly on all sides ("same" at stride 1 unless `padding` says otherwise), He-initialised."""
    pad = dilation * (kernel - 1) // 2 if padding is None else padding
    return nnx.Conv(
        inner, outer, (kernel, kernel), strides=(stride, stride), padding=((pad, pad), (pad, pad)), kernel_dilation=(dilation, dilation),
        feature_group_count=groups, use_bias=bias, kernel_init=nnx.initializers.he_normal(), rngs=rngs,
    )  # fmt: skip


class FrozenBatchNorm(nnx.Module):
    """Batch normalisation with the stored statistics, in training too: a factor and a shift per channel.

    `mean` and `var` are nnx.BatchStat: never trained (`trees.split`), whatever the patterns say. eps 1e-5 as PyTorch's.
    """

    def __init__(self, width: int):
        self.scale, self.bias = nnx.Param(jnp.ones(width)), nnx.Param(jnp.zeros(width))
        self.mean, self.var = nnx.BatchStat(jnp.zeros(width)), nnx.BatchStat(jnp.ones(width))

    def __call__(self, x):
        scale, bias, mean, var = (v[...].astype(jnp.float32) for v in (self.scale, self.bias, self.mean, self.var))
        factor = scale * jax.lax.rsqrt(var + 1e-5)
        return x * factor.astype(x.dtype) + (bias - mean * factor).astype(x.dtype)


def max_pool(x, kernel: int, stride: int, padding: int = 0):
    """Maximum over kernel x kernel windows; a last window that does not fit is dropped, as in PyTorch."""
    pad = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, kernel, kernel, 1), (1, stride, stride, 1), pad)

"""Convolutions and batch normalisation as PyTorch does them, on [B, H, W, C]."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from rein_jax.kernels.conv3x3 import conv3x3
from rein_jax.kernels.conv_transpose2x2 import conv_transpose2x2
from rein_jax.kernels.depthwise_conv3x3 import depthwise_conv3x3
from rein_jax.trees import param


def conv(
    in_channels: int, out_channels: int, kernel: int, *, stride=1, dilation=1, groups=1, bias=False, padding: int | None = None,
    rngs: nnx.Rngs,
) -> nnx.Conv:  # fmt: skip
    """A square convolution padded evenly on all sides ("same" at stride 1 unless `padding` says otherwise), He-initialised."""
    pad = dilation * (kernel - 1) // 2 if padding is None else padding
    return nnx.Conv(
        in_channels, out_channels, (kernel, kernel), strides=(stride, stride), padding=((pad, pad), (pad, pad)),
        kernel_dilation=(dilation, dilation), feature_group_count=groups, use_bias=bias, kernel_init=nnx.initializers.he_normal(),
        rngs=rngs,
    )  # fmt: skip


class Doubled(nnx.ConvTranspose):
    """A transposed 2 x 2 convolution of stride 2, width to width: twice the resolution."""

    def __init__(self, width: int, *, rngs: nnx.Rngs, **initial):
        super().__init__(width, width, (2, 2), strides=(2, 2), padding="VALID", rngs=rngs, **initial)

    def __call__(self, x):
        return conv_transpose2x2(x, self.kernel[...]) + self.bias[...]


class Conv3x3(nnx.Module):
    """A 3x3 convolution with zero padding; parameters as `nnx.Conv`: kernel [3, 3, C, D] and, unless left out, bias [D]."""

    def __init__(self, inputs: int, outputs: int, *, use_bias: bool = True, kernel_init, rngs: nnx.Rngs):
        self.kernel = nnx.Param(kernel_init(rngs.params(), (3, 3, inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(outputs)) if use_bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = conv3x3(x, self.kernel[...])
        return y if self.bias is None else y + self.bias[...]


class Depthwise3x3(nnx.Conv):
    """A 3 x 3 convolution of each channel by itself, padded with zeros, without bias."""

    def __init__(self, width: int, *, rngs: nnx.Rngs, **initial):
        super().__init__(width, width, (3, 3), padding=((1, 1), (1, 1)), feature_group_count=width, use_bias=False, rngs=rngs, **initial)

    def __call__(self, x):
        return depthwise_conv3x3(x, self.kernel[...])


class FrozenBatchNorm(nnx.Module):
    """Batch normalisation with the stored statistics, in training too: a factor and a shift per channel.

    `mean` and `var` are nnx.BatchStat: never trained (`trees.split`), whatever the patterns say. eps 1e-5 as PyTorch's.
    """

    def __init__(self, width: int):
        self.scale, self.bias = param(jnp.ones(width), decay=False), param(jnp.zeros(width), decay=False)
        self.mean, self.var = nnx.BatchStat(jnp.zeros(width)), nnx.BatchStat(jnp.ones(width))

    def __call__(self, x):
        scale, bias, mean, var = (v[...].astype(jnp.float32) for v in (self.scale, self.bias, self.mean, self.var))
        factor = scale * jax.lax.rsqrt(var + 1e-5)
        return x * factor.astype(x.dtype) + (bias - mean * factor).astype(x.dtype)


def max_pool(x, kernel: int, stride: int, padding: int = 0):
    """Maximum over kernel x kernel windows; a last window that does not fit is dropped, as in PyTorch."""
    pad = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, kernel, kernel, 1), (1, stride, stride, 1), pad)

"""3x3 convolution whose kernel gradient is quick on CPU too."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from rein_jax.kernels.platforms import target


def _convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@jax.custom_vjp
def _conv3x3_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _convolve(x, kernel)


def _forward(x, kernel):
    return _convolve(x, kernel), (x, kernel)


def _backward(saved, gradient):
    """XLA's CPU backend runs the kernel's gradient as a convolution with a window as large as the map, five times slower than
    these nine matrix products of shifted maps."""
    x, kernel = saved
    of_input, = jax.linear_transpose(lambda x: _convolve(x, kernel), x)(gradient)
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    channels = gradient.reshape(-1, gradient.shape[-1]).T  # turned over once; the other way about, each shifted map would be
    shifted = lambda i, j: padded[:, i:i + height, j:j + width].reshape(-1, x.shape[-1])
    of_kernel = [[(channels @ shifted(i, j)).T for j in range(3)] for i in range(3)]
    return of_input, jnp.stack([jnp.stack(row) for row in of_kernel]).astype(kernel.dtype)


_conv3x3_cpu.defvjp(_forward, _backward)


def conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [B, H, W, C], kernel [3, 3, C, D], zero padding -> [B, H, W, D]."""
    return _conv3x3_cpu(x, kernel) if target() == "cpu" else _convolve(x, kernel)


class Conv3x3(nnx.Module):
    """A 3x3 convolution with zero padding; parameters as `nnx.Conv`: kernel [3, 3, C, D] and, unless left out, bias [D]."""

    def __init__(self, inputs: int, outputs: int, *, use_bias: bool = True, kernel_init, rngs: nnx.Rngs):
        self.kernel = nnx.Param(kernel_init(rngs.params(), (3, 3, inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(outputs)) if use_bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = conv3x3(x, self.kernel[...])
        return y if self.bias is None else y + self.bias[...]

"""3 x 3 convolution, padded with zeros, whose kernel gradient is quick on a CPU too."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rein_jax.kernels.platforms import target


def conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [B, H, W, C], kernel [3, 3, C, D], zero padding -> [B, H, W, D]."""
    return FORMS["products" if target() == "cpu" else "reference"](x, kernel)


def _reference(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@jax.custom_vjp
def _products(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _reference(x, kernel)


def _forward(x, kernel):
    return _reference(x, kernel), (x, kernel)


def _backward(saved, gradient):
    """XLA's CPU backend runs the kernel's gradient as a convolution with a window as large as the map, five times slower than
    these nine matrix products of shifted maps."""
    x, kernel = saved
    of_input, = jax.linear_transpose(lambda x: _reference(x, kernel), x)(gradient)
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    channels = gradient.reshape(-1, gradient.shape[-1]).T  # turned over once; the other way about, each shifted map would be
    shifted = lambda i, j: padded[:, i:i + height, j:j + width].reshape(-1, x.shape[-1])
    of_kernel = [[(channels @ shifted(i, j)).T for j in range(3)] for i in range(3)]
    return of_input, jnp.stack([jnp.stack(row) for row in of_kernel]).astype(kernel.dtype)


_products.defvjp(_forward, _backward)

FORMS = {"reference": _reference, "products": _products}

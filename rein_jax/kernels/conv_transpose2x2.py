"""Transposed 2 x 2 convolution of stride 2: twice the resolution."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def conv_transpose2x2(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [B, H, W, C], kernel [2, 2, C, D] -> [B, 2H, 2W, D]."""
    return FORMS["product"](x, kernel)


def _reference(x, kernel):
    return jax.lax.conv_transpose(x, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _product(x, kernel):
    """Every pixel becomes four, so it is one matrix product. XLA's CPU backend is four times slower with transposed kernels' gradients."""
    batch, height, width, _ = x.shape
    kernel = jnp.moveaxis(kernel[::-1, ::-1], 2, 0)  # [C, 2, 2, D]; lax correlates where torch convolves
    y = (x @ kernel.reshape(kernel.shape[0], -1)).reshape(batch, height, width, 2, 2, -1)
    return jnp.swapaxes(y, 2, 3).reshape(batch, 2 * height, 2 * width, -1)


FORMS = {"reference": _reference, "product": _product}

"""3 x 3 convolution of each channel by itself, padded with zeros."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rein_jax.kernels.platforms import target


def depthwise_conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [B, H, W, C], kernel [3, 3, 1, C], zero padding -> [B, H, W, C]."""
    exported = not isinstance(x.shape[0], int)  # with a free batch size, to run anywhere
    return FORMS["shifts" if target() == "cpu" and not exported else "reference"](x, kernel)


def _reference(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"),
                                        feature_group_count=x.shape[-1])


def _shifts(x, kernel):
    """Nine shifted products: XLA's CPU backend is up to thirty times slower with the gradients of a depthwise kernel."""
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(padded[:, i:i + height, j:j + width] * kernel[i, j, 0] for i in range(3) for j in range(3))


FORMS = {"reference": _reference, "shifts": _shifts}

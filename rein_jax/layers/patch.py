"""Cutting an image into patches and projecting each to a token."""

from __future__ import annotations

import math

import jax.numpy as jnp
from flax import nnx


def square(tokens) -> tuple[int, int]:
    """The grid of tokens [B, N, C] that fill a square; a ValueError where N is no square number."""
    side = math.isqrt(tokens.shape[1])
    if side * side != tokens.shape[1]:
        raise ValueError(f"{tokens.shape[1]} tokens do not fill a square; give the grid (height, width) as the block's context")
    return side, side


class PatchEmbed(nnx.Module):
    """A p x p convolution with stride p, done as one matrix product. [B, H, W, 3] -> [B, H/p, W/p, d]."""

    def __init__(self, embed_dim: int, patch: int, *, bias: bool = True, rngs: nnx.Rngs):
        self.patch = patch
        self.kernel = nnx.Param(nnx.initializers.lecun_normal(in_axis=(0, 1, 2))(rngs.params(), (patch, patch, 3, embed_dim), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(embed_dim)) if bias else None

    def __call__(self, images):
        b, h, w, c = images.shape
        p = self.patch
        if h % p or w % p:
            raise ValueError(f"image sides {h} x {w} are not multiples of the patch size {p}; pad them (Segmenter does)")
        cells = images.reshape(b, h // p, p, w // p, p, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h // p, w // p, p * p * c)
        tokens = cells @ self.kernel[...].reshape(p * p * c, -1)
        return tokens if self.bias is None else tokens + self.bias[...]

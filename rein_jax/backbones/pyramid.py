"""Four feature maps at strides 4, 8, 16 and 32 from four block outputs of a plain ViT (stride 16)."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from rein_jax.layers.resize import bilinear_by

SCALES = (4.0, 2.0, 1.0, 0.5)


def to_map(tokens, grid: tuple[int, int], num_prefix_tokens: int):
    """Patch tokens as a map: [B, num_prefix_tokens + h*w, d] -> [B, h, w, d]."""
    return tokens[:, num_prefix_tokens:].reshape(tokens.shape[0], *grid, tokens.shape[-1])


@jax.named_scope("pyramid")
def pyramid(maps: Sequence) -> tuple:
    """The maps resized by 4, 2, 1 and 0.5 (bilinear, no antialias; the sampling step is the factor itself, as the original's
    `scale_factor`, which matters where half of an odd side is rounded down)."""
    return tuple(x if scale == 1.0 else bilinear_by(x, scale) for x, scale in zip(maps, SCALES, strict=True))

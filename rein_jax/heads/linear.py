"""One linear map per position: the plainest head, for probing what features hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rein_jax.errors import UserError
from rein_jax.heads.base import Head, shapes_of
from rein_jax.layers import resize


class LinearHead(Head):
    """1x1 convolution on one feature map, or on several resized to the first one's size and concatenated.

    Initial kernel N(0, 0.01), bias 0, as mmseg's `conv_seg`. Object queries are ignored.

    Args:
        backbone: what gives the maps.
        num_classes: number of classes.
        in_channels: in place of a backbone, the maps' channels, finest first.
        adapter: taken for uniformity.
        rngs: for the initial values.
        levels: which maps are read (negative counts from the end).

    Raises:
        UserError: a level that there is not.

    Example:
        head = rj.LinearHead(backbone, num_classes=19, levels=(2, 3))
    """

    def __init__(self, backbone: nnx.Module | Sequence[int] | None = None, num_classes: int | None = None, *,
                 in_channels: Sequence[int] | None = None, adapter: Any = None, rngs: nnx.Rngs | None = None,
                 levels: Sequence[int] = (2,)):
        in_channels, num_classes = shapes_of(backbone, in_channels, num_classes, "LinearHead")
        self.num_classes, rngs = num_classes, rngs or nnx.Rngs(0)
        if not levels or any(not -len(in_channels) <= level < len(in_channels) for level in levels):
            raise UserError(f"head.levels is {tuple(levels)}; each must name one of the backbone's {len(in_channels)} feature maps.")
        self.levels = tuple(int(level) for level in levels)
        self.classify = nnx.Linear(sum(in_channels[level] for level in self.levels), num_classes, rngs=rngs,
                                   kernel_init=nnx.initializers.normal(0.01))

    def __call__(self, maps: Sequence[jax.Array], queries=None, key=None) -> dict[str, jax.Array]:
        """maps: [B, h_i, w_i, C_i] each -> {"logits": [B, h, w, K]} at the size of the first map that is read."""
        chosen = [maps[level] for level in self.levels]
        chosen = [chosen[0], *(resize.bilinear(m, chosen[0].shape[1:3]) for m in chosen[1:])]
        return {"logits": self.classify(jnp.concatenate(chosen, axis=-1) if len(chosen) > 1 else chosen[0])}

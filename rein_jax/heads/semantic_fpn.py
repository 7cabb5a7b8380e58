"""Semantic FPN (Kirillov et al., CVPR 2019): top-down pyramid, one scale head a level, summed at stride 4.

The same function as mmseg's `FPN` neck followed by `FPNHead`; their names are in `weights/official.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rein_jax.errors import UserError
from rein_jax.heads.base import Head, shapes_of
from rein_jax.layers import resize
from rein_jax.layers.conv import Conv3x3, FrozenBatchNorm
from rein_jax.layers.norm import group_norm

_XAVIER = nnx.initializers.xavier_uniform()
_KAIMING = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")  # mmcv's default of a convolution before ReLU


class ConvNormReLU(nnx.Module):
    """3x3 convolution without bias, norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, *, norm: str, groups: int, rngs: nnx.Rngs):
        self.conv = Conv3x3(inputs, outputs, use_bias=False, kernel_init=_KAIMING, rngs=rngs)
        self.norm = FrozenBatchNorm(outputs) if norm == "batch" else group_norm(outputs, groups, fast=True, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.relu(self.norm(self.conv(x)))


class SemanticFPN(Head):
    """Semantic FPN head; object queries are ignored.

    Args:
        backbone: what gives the maps.
        num_classes: number of classes.
        in_channels: in place of a backbone, the maps' channels, finest first.
        adapter: taken for uniformity.
        rngs: for the initial values.
        strides: of the maps (default: the backbone's, or 4 to 32).
        channels: width of the pyramid.
        head_channels: width of the scale heads, a multiple of groups.
        norm: "group" (trains without mutable statistics) or "batch" (stored statistics, for weights from mmseg).
        groups: of the group norms.
        dropout: share of channels dropped before the classifier (needs a key).

    Raises:
        UserError: sizes that do not go together.

    Example:
        head = rj.SemanticFPN(backbone, num_classes=19)
    """

    def __init__(self, backbone: nnx.Module | Sequence[int] | None = None, num_classes: int | None = None, *,
                 in_channels: Sequence[int] | None = None, adapter: Any = None, rngs: nnx.Rngs | None = None,
                 strides: Sequence[int] | None = None, channels: int = 256, head_channels: int = 128, norm: str = "group", groups: int = 32,
                 dropout: float = 0.1):
        in_channels, num_classes = shapes_of(backbone, in_channels, num_classes, "SemanticFPN")
        rngs, strides = rngs or nnx.Rngs(0), tuple(strides or getattr(backbone, "strides", (4, 8, 16, 32)))
        self.num_classes = num_classes
        if norm not in ("group", "batch"):
            raise UserError(f"head.norm is {norm!r}; Semantic FPN knows 'group' and 'batch'.")
        if len(strides) != len(in_channels):
            raise UserError(f"head.strides has {len(strides)} entries, but the backbone gives {len(in_channels)} feature maps.")
        if norm == "group" and head_channels % groups:
            raise UserError(f"head.head_channels is {head_channels}; it must be a multiple of head.groups ({groups}).")
        self.laterals = nnx.List([nnx.Conv(width, channels, (1, 1), kernel_init=_XAVIER, rngs=rngs) for width in in_channels])
        self.smooth = nnx.List([Conv3x3(channels, channels, kernel_init=_XAVIER, rngs=rngs) for _ in in_channels])
        block = partial(ConvNormReLU, norm=norm, groups=groups, rngs=rngs)
        # One block for each halving that has to be undone, and at least one.
        counts = [max(1, round(math.log2(stride / strides[0]))) for stride in strides]
        self.scale_heads = nnx.List([
            nnx.List([block(channels if i == 0 else head_channels, head_channels) for i in range(n)]) for n in counts
        ])
        self.classify = nnx.Conv(head_channels, num_classes, (1, 1), rngs=rngs, kernel_init=nnx.initializers.normal(0.01))
        self.upsample = tuple(stride != strides[0] for stride in strides)
        self.dropout = dropout

    def __call__(self, maps: Sequence[jax.Array], queries=None, key: jax.Array | None = None) -> dict[str, jax.Array]:
        """maps: [B, h_i, w_i, C_i], finest first -> {"logits": [B, h_0, w_0, K]}. key=None: no dropout."""
        levels = [lateral(x) for lateral, x in zip(self.laterals, maps, strict=True)]
        for i in range(len(levels) - 1, 0, -1):
            levels[i - 1] = levels[i - 1] + resize.resize(levels[i], levels[i - 1].shape[1:3], "nearest")
        levels = [smooth(x) for smooth, x in zip(self.smooth, levels, strict=True)]
        size = levels[0].shape[1:3]
        total = 0.0
        for blocks, x, upsample in zip(self.scale_heads, levels, self.upsample, strict=True):
            for block in blocks:
                x = block(x)
                if upsample:
                    x = resize.bilinear(x, (2 * x.shape[1], 2 * x.shape[2]))
            total = total + resize.bilinear(x, size)
        return {"logits": self.classify(self._drop(total, key))}

    def _drop(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        """Whole channels are dropped (torch's Dropout2d)."""
        if key is None or self.dropout == 0:
            return x
        keep = jax.random.bernoulli(key, 1 - self.dropout, (x.shape[0], 1, 1, x.shape[-1]))
        return jnp.where(keep, x / (1 - self.dropout), 0).astype(x.dtype)

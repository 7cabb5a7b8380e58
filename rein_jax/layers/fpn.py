"""Learned rescaling of four maps of one stride by 4, 2, 1 and 1/2 (the trainable part of the official Rein-CLIP)."""

from __future__ import annotations

from flax import nnx

from rein_jax.kernels.gelu import gelu
from rein_jax.layers.conv import Doubled, FrozenBatchNorm, max_pool
from rein_jax.layers.norm import group_norm
from rein_jax.weight_rules import Rule


class FeaturePyramid(nnx.Module):
    """Each map: GroupNorm of one group; then two, one or no transposed 2 x 2 convolutions of stride 2, or a 2 x 2 maximum.

    Between the two convolutions stand a batch norm and a GELU. The original updates the batch norm's statistics in training; here they
    stay as loaded (zero mean and unit variance in a new model), so that a forward pass changes no parameter.
    """

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.norms = nnx.List([group_norm(width, 1, rngs=rngs) for _ in range(4)])
        self.up4a, self.bn, self.up4b = Doubled(width, rngs=rngs), FrozenBatchNorm(width), Doubled(width, rngs=rngs)
        self.up2 = Doubled(width, rngs=rngs)

    def __call__(self, maps) -> tuple:
        """Four maps [B, h, w, d] -> strides 1/4, 1/2, 1 and 2 of theirs."""
        a, b, c, d = (norm(x) for norm, x in zip(self.norms, maps, strict=True))
        return self.up4b(gelu(self.bn(self.up4a(a)))), self.up2(b), c, max_pool(d, 2, 2)


class MultiLevelNeck(nnx.Module):
    """A 1x1 and a 3x3 convolution on each of four maps (mmseg's neck of this name, which the official frozen CLIP trains).

    The original resizes by 4, 2, 1 and 1/2 between the two; our maps come resized, which is the same function: a 1x1 convolution
    commutes with a resize whose weights sum to one. Initial values: Xavier uniform, zero biases.
    """

    def __init__(self, in_channels, *, rngs: nnx.Rngs):
        def conv(width, side):
            return nnx.Conv(width, width, (side, side), kernel_init=nnx.initializers.xavier_uniform(), rngs=rngs)

        self.laterals = nnx.List([conv(width, 1) for width in in_channels])
        self.convs = nnx.List([conv(width, 3) for width in in_channels])

    def __call__(self, maps) -> tuple:
        """Four maps [B, h, w, d] -> maps of the same shapes."""
        return tuple(conv(lateral(x)) for conv, lateral, x in zip(self.convs, self.laterals, maps, strict=True))


def neck_rules(source: str = "neck.", target: str = "head/neck/") -> tuple[Rule, ...]:
    """mmseg's names of MultiLevelNeck."""
    out = []
    for theirs, ours in (("lateral_convs", "laterals"), ("convs", "convs")):
        out.append(Rule(f"{source}{theirs}.{{i}}.conv.weight", f"{target}{ours}/{{i}}/kernel", "conv"))
        out.append(Rule(f"{source}{theirs}.{{i}}.conv.bias", f"{target}{ours}/{{i}}/bias"))
    return tuple(out)


def rules(source: str = "backbone.", target: str = "backbone/fpn/") -> tuple[Rule, ...]:
    """Names in official Rein-CLIP checkpoints (backbone.fpn1.0.weight, ..., backbone.fpn3.weight: a norm alone)."""
    out = []
    for theirs, ours in (("weight", "scale"), ("bias", "bias")):
        for i, part in enumerate(("fpn1.0", "fpn2.0", "fpn3", "fpn4.0")):
            out.append(Rule(f"{source}{part}.{theirs}", f"{target}norms/{i}/{ours}"))
        out.append(Rule(f"{source}fpn3.0.{theirs}", f"{target}norms/2/{ours}"))  # in files that we wrote before 2026-11-26
    for theirs, ours in (("fpn1.1", "up4a"), ("fpn1.4", "up4b"), ("fpn2.1", "up2")):
        out.append(Rule(f"{source}{theirs}.weight", f"{target}{ours}/kernel", "conv_transpose"))
        out.append(Rule(f"{source}{theirs}.bias", f"{target}{ours}/bias"))
    for theirs, ours in (("weight", "scale"), ("bias", "bias"), ("running_mean", "mean"), ("running_var", "var")):
        out.append(Rule(f"{source}fpn1.2.{theirs}", f"{target}bn/{ours}"))
    return tuple(out)

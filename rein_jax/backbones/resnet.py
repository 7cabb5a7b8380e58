"""ResNet-50/101 V1c (He et al. 2016, with a stem of three 3 x 3 convolutions), dilated as in segmentation: strides 4, 8, 8, 8.

Batch norms use their stored statistics in training too. Weights: open-mmlab (Apache-2.0), torchvision or HF for the 7 x 7 stem.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from flax import nnx

from rein_jax.adapters.base import AnyAdapter, BlockSpec, stages_of
from rein_jax.backbones.base import Backbone
from rein_jax.backbones.cnn import adapter_of, as_map, as_tokens, run_last, stage_key
from rein_jax.backbones.names import Rules, batch_norm
from rein_jax.backbones.variants import get_variant
from rein_jax.errors import UserError
from rein_jax.layers.conv import FrozenBatchNorm, conv, max_pool
from rein_jax.layers.stack import stacked
from rein_jax.weight_rules import Rule


@dataclass(frozen=True)
class ResNetConfig:
    """depths: blocks per stage. channels: of the stages' outputs; blocks have a quarter as many inside. stem: its channels."""

    depths: tuple[int, ...]
    channels: tuple[int, ...] = (256, 512, 1024, 2048)
    stem: int = 64


class Bottleneck(nnx.Module):
    """1x1, 3x3 (stride and dilation here), 1x1, each with batch norm; plus the identity or, where shapes change, a 1x1 projection.

    Takes tokens [B, h*w, C] with context = (h, w) and returns tokens.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, dilation: int = 1, rngs: nnx.Rngs):
        mid = out_channels // 4
        self.conv1, self.bn1 = conv(in_channels, mid, 1, rngs=rngs), FrozenBatchNorm(mid)
        self.conv2, self.bn2 = conv(mid, mid, 3, stride=stride, dilation=dilation, rngs=rngs), FrozenBatchNorm(mid)
        self.conv3, self.bn3 = conv(mid, out_channels, 1, rngs=rngs), FrozenBatchNorm(out_channels)
        projected = stride != 1 or in_channels != out_channels
        self.shortcut = conv(in_channels, out_channels, 1, stride=stride, rngs=rngs) if projected else None
        self.shortcut_bn = FrozenBatchNorm(out_channels) if projected else None

    def __call__(self, tokens, hooks=None, context=None):
        x = as_map(tokens, context)
        y = jax.nn.relu(self.bn1(self.conv1(x)))
        y = jax.nn.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        if self.shortcut is not None:
            x = self.shortcut_bn(self.shortcut(x))
        return as_tokens(jax.nn.relu(x + y))


class ResNetStage(nnx.Module):
    """The first block, which changes the shape, and the stack of the others. Its dilation is half the stage's (contracted)."""

    def __init__(self, in_channels: int, out_channels: int, depth: int, stride: int, dilation: int, *, rngs: nnx.Rngs):
        self.depth, self.stride = depth, stride
        contracted = dilation // 2 if dilation > 1 else dilation
        self.first = stacked(lambda r: Bottleneck(in_channels, out_channels, stride=stride, dilation=contracted, rngs=r), 1, rngs)
        same = lambda r: Bottleneck(out_channels, out_channels, dilation=dilation, rngs=r)
        self.rest = stacked(same, depth - 1, rngs) if depth > 1 else None

    def __call__(self, x, adapter, key, remat: str, unroll: bool):
        """[B, h, w, C] -> [B, h', w', C']."""
        options = dict(adapter=adapter, key=key, remat=remat)
        tokens, grid = as_tokens(x), x.shape[1:3]
        tokens = run_last(self.first, tokens, offset=0, depth=1, unroll=True, context=grid, **options)  # shapes change: no scan
        grid = tuple(-(-side // self.stride) for side in grid)
        tokens = run_last(self.rest, tokens, offset=1, depth=self.depth - 1, unroll=unroll, context=grid, **options)
        return as_map(tokens if adapter is None else adapter.post_forward(tokens, 0), grid)


class Stem(nnx.Module):
    """Stride 4: three 3x3 convolutions (deep) or one 7x7, then a 3x3 maximum."""

    def __init__(self, out_channels: int, deep: bool, *, rngs: nnx.Rngs):
        half = out_channels // 2
        plan = ((3, half, 3, 2), (half, half, 3, 1), (half, out_channels, 3, 1)) if deep else ((3, out_channels, 7, 2),)
        self.convs = nnx.List([conv(a, b, k, stride=s, rngs=rngs) for a, b, k, s in plan])
        self.norms = nnx.List([FrozenBatchNorm(b) for _, b, _, _ in plan])

    def __call__(self, x):
        for layer, norm in zip(self.convs, self.norms, strict=True):
            x = jax.nn.relu(norm(layer(x)))
        return max_pool(x, 3, 2, 1)


class ResNet(Backbone):
    """ResNet giving four maps, one per stage; one adapter per stage, acting after every residual block.

    Args:
        variant: "50", "101", with or without "resnet_" in front; or a ResNetConfig.
        rngs: of random initial values (default: nnx.Rngs(0)).
        image_size, out_indices: nothing depends on the size, and the outputs are the four stages'.
        remat, unroll: see `ViT`.
        deep_stem: three 3x3 convolutions in place of one 7x7 (V1c).
        strides, dilations: of the four stages.
    """

    family = "resnet"
    VARIANTS = {"50": ResNetConfig((3, 4, 6, 3)), "101": ResNetConfig((3, 4, 23, 3))}

    def __init__(
        self, variant: str | ResNetConfig, *, rngs: nnx.Rngs | None = None, image_size=512, out_indices=None, remat="none", unroll=False,
        deep_stem: bool = True,
        strides: tuple[int, ...] = (1, 2, 1, 1), dilations: tuple[int, ...] = (1, 1, 2, 4),
    ):  # fmt: skip
        config, rngs = get_variant(ResNet.VARIANTS, variant, ResNet.family), rngs or nnx.Rngs(0)
        if out_indices is not None and tuple(out_indices) != (0, 1, 2, 3):
            raise UserError(f"config.backbone.out_indices is {tuple(out_indices)}; a ResNet gives its four stages, leave it empty.")
        self.config, self.remat, self.unroll, self.out_channels = config, remat, unroll, tuple(config.channels)
        self.strides = tuple(int(4 * n) for n in np.cumprod(strides))
        self.patch = self.strides[-1]
        self.stem = Stem(config.stem, deep_stem, rngs=rngs)
        in_channels = (config.stem, *config.channels[:-1])
        plan = zip(in_channels, config.channels, config.depths, strides, dilations, strict=True)
        self.layers = nnx.List([ResNetStage(*row, rngs=rngs) for row in plan])
        stages = zip(config.depths, config.channels, strict=True)
        self.block_specs = tuple(BlockSpec(depth, channels, hook_points=()) for depth, channels in stages)

    def __call__(self, images, adapters: AnyAdapter = None, key=None) -> tuple:
        """Four maps (strides 4, 8, 8, 8 as published). images [B, H, W, 3], normalised."""
        with jax.named_scope("stem"):
            x = self.stem(images)
        maps, adapters = [], stages_of(adapters)
        for i, layer in enumerate(self.layers):
            with jax.named_scope(f"stage{i}"):
                x = layer(x, adapter_of(adapters, i), stage_key(key, i), self.remat, self.unroll)
            maps.append(x)
        return tuple(maps)


def _unit(convolution: str, norm: str, target: str, ours: tuple[str, str], index: int | None) -> Rules:
    """A convolution and its batch norm."""
    return (Rule(f"{convolution}.weight", f"{target}{ours[0]}/kernel", "conv", index=index), *batch_norm(norm, target + ours[1], index))


def _blocks(config: ResNetConfig, source, units) -> Rules:
    """source(stage, block) -> prefix; units: (theirs conv, theirs norm, our pair)."""
    out: list[Rule] = []
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            target, index = f"backbone/layers/{stage}/" + ("rest/" if block else "first/"), max(block - 1, 0)
            for convolution, norm, ours in units:
                out += _unit(source(stage, block) + convolution, source(stage, block) + norm, target, ours, index)
    return tuple(out)


def formats(variant: str | ResNetConfig) -> dict[str, tuple[Rules, tuple[str, ...]]]:
    """Tables of names by format: mmseg's ResNetV1c, and those of models with a 7 x 7 stem, torchvision's (and timm's) and HF's."""
    config, stem = get_variant(ResNet.VARIANTS, variant, ResNet.family), "backbone/stem/"
    units = [(f"conv{i}", f"bn{i}", (f"conv{i}", f"bn{i}")) for i in (1, 2, 3)]
    units.append(("downsample.0", "downsample.1", ("shortcut", "shortcut_bn")))
    body = _blocks(config, lambda stage, block: f"layer{stage + 1}.{block}.", units)
    deep: list[Rule] = []
    for i, (convolution, norm) in enumerate((("stem.0", "stem.1"), ("stem.3", "stem.4"), ("stem.6", "stem.7"))):
        deep += _unit(convolution, norm, stem, (f"convs/{i}", f"norms/{i}"), None)
    single = lambda convolution, norm: _unit(convolution, norm, stem, ("convs/0", "norms/0"), None)
    units = [(f"layer.{i}.convolution", f"layer.{i}.normalization", (f"conv{i + 1}", f"bn{i + 1}")) for i in range(3)]
    units.append(("shortcut.convolution", "shortcut.normalization", ("shortcut", "shortcut_bn")))
    hf = _blocks(config, lambda stage, block: f"encoder.stages.{stage}.layers.{block}.", units)
    skip = (r".*num_batches_tracked", r"fc\..*", r"head\..*", r"classifier\..*")
    return {
        "official": ((*body, *deep), skip),
        "torchvision": ((*body, *single("conv1", "bn1")), skip),
        "hf": ((*hf, *single("embedder.embedder.convolution", "embedder.embedder.normalization")), skip),
    }

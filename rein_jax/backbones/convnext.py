"""ConvNeXt (Liu et al. 2022). Weights: ImageNet-21k models of the authors (MIT), also as mmpretrain, HF and timm files.

Each stage's output is normed before it becomes a map; the stream itself goes on without the norm. Published classifiers hold the norm of
the last stage only, the other three start as the identity, as in the official Rein.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
from flax import nnx

from rein_jax.adapters.base import AnyAdapter, BlockSpec, stages_of
from rein_jax.backbones.base import Backbone
from rein_jax.backbones.cnn import adapter_of, as_map, as_tokens, run_last, stage_key
from rein_jax.backbones.names import Rules, conv, linear, norm
from rein_jax.backbones.variants import get_variant
from rein_jax.backbones.vit import LayerScale
from rein_jax.errors import UserError
from rein_jax.kernels.gelu import gelu
from rein_jax.layers.conv import conv as convolution
from rein_jax.layers.hooks import NO_HOOKS
from rein_jax.layers.norm import layer_norm
from rein_jax.layers.stack import stacked
from rein_jax.weight_rules import Rule

EPS = 1e-6


@dataclass(frozen=True)
class ConvNeXtConfig:
    """depths: blocks per stage; channels: of the stages."""

    depths: tuple[int, ...]
    channels: tuple[int, ...]


class ConvNeXtBlock(nnx.Module):
    """x + gamma * pwconv2(gelu(pwconv1(LN(7x7 depthwise x)))). Tokens [B, h*w, C], context = (h, w)."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.dwconv = convolution(channels, channels, 7, groups=channels, bias=True, rngs=rngs)
        self.norm = layer_norm(channels, EPS, rngs=rngs)
        self.pwconv1 = nnx.Linear(channels, 4 * channels, rngs=rngs)
        self.pwconv2 = nnx.Linear(4 * channels, channels, rngs=rngs)
        self.scale = LayerScale(channels)

    def __call__(self, tokens, hooks=None, context=None):
        hooks = hooks or NO_HOOKS
        x = self.norm(as_tokens(self.dwconv(as_map(tokens, context))))
        y = gelu(hooks.on_linear("pwconv1", x, self.pwconv1(x)))
        y = hooks.on_linear("pwconv2", y, self.pwconv2(y))
        return tokens + hooks.on_mlp(tokens, self.scale(y))

    @staticmethod
    def linears(channels: int) -> tuple:
        return (("pwconv1", (channels, 4 * channels)), ("pwconv2", (4 * channels, channels)))


class Downsample(nnx.Module):
    """The stem (4x4 convolution, norm) or the step between two stages (norm, 2x2 convolution)."""

    def __init__(self, in_channels: int, out_channels: int, first: bool, *, rngs: nnx.Rngs):
        self.first, size = first, 4 if first else 2
        self.norm = layer_norm(out_channels if first else in_channels, EPS, rngs=rngs)
        self.conv = convolution(in_channels, out_channels, size, stride=size, padding=0, bias=True, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.conv(x)) if self.first else self.conv(self.norm(x))


class ConvNeXt(Backbone):
    """ConvNeXt giving four maps at strides 4, 8, 16, 32; one adapter per stage, acting after every block.

    Args:
        variant: "t", "b", "l", with or without "convnext_" in front; or a ConvNeXtConfig.
        rngs: of random initial values (default: nnx.Rngs(0)).
        image_size, out_indices: nothing depends on the size, and the outputs are the four stages'.
        remat, unroll: see `ViT`.
    """

    family = "convnext"
    patch = 32
    VARIANTS = {
        "t": ConvNeXtConfig((3, 3, 9, 3), (96, 192, 384, 768)),
        "b": ConvNeXtConfig((3, 3, 27, 3), (128, 256, 512, 1024)),
        "l": ConvNeXtConfig((3, 3, 27, 3), (192, 384, 768, 1536)),
    }

    def __init__(self, variant: str | ConvNeXtConfig, *, rngs: nnx.Rngs | None = None, image_size=512, out_indices=None, remat="none",
                 unroll=False):
        config, rngs = get_variant(ConvNeXt.VARIANTS, variant, ConvNeXt.family), rngs or nnx.Rngs(0)
        if out_indices is not None and tuple(out_indices) != (0, 1, 2, 3):
            raise UserError(f"config.backbone.out_indices is {tuple(out_indices)}; ConvNeXt gives its four stages, leave it empty.")
        self.config, self.remat, self.unroll, self.out_channels = config, remat, unroll, tuple(config.channels)
        in_channels = (3, *config.channels[:-1])
        pairs = enumerate(zip(in_channels, config.channels, strict=True))
        self.downsample = nnx.List([Downsample(a, b, i == 0, rngs=rngs) for i, (a, b) in pairs])
        plan = tuple(zip(config.depths, config.channels, strict=True))
        self.blocks = nnx.List([stacked(lambda r, n=channels: ConvNeXtBlock(n, rngs=r), depth, rngs) for depth, channels in plan])
        self.norms = nnx.List([layer_norm(channels, EPS, rngs=rngs) for channels in config.channels])
        self.block_specs = tuple(
            BlockSpec(depth, channels, 0, ConvNeXtBlock.linears(channels), hook_points=("mlp",)) for depth, channels in plan
        )

    def __call__(self, images, adapters: AnyAdapter = None, key=None) -> tuple:
        """Four maps at strides 4, 8, 16, 32. images [B, H, W, 3], normalised, sides multiples of 32."""
        x, maps, adapters = images, [], stages_of(adapters)
        for i, depth in enumerate(self.config.depths):
            with jax.named_scope(f"stage{i}"):
                x = self.downsample[i](x)
                grid, adapter = x.shape[1:3], adapter_of(adapters, i)
                tokens = run_last(
                    self.blocks[i], as_tokens(x), offset=0, depth=depth, adapter=adapter, key=stage_key(key, i), remat=self.remat,
                    unroll=self.unroll, context=grid,
                )  # fmt: skip
                x = as_map(tokens if adapter is None else adapter.post_forward(tokens, 0), grid)
                maps.append(self.norms[i](x))
        return tuple(maps)


def _blocks(source: str, depthwise: str, middle: str, first: str, second: str, scale: str) -> Rules:
    """The arrays of a block; `source` holds the holes {stage} and {layer}."""
    target = "backbone/blocks/{stage}/"
    return (
        *conv(f"{source}{depthwise}", f"{target}dwconv"),
        *norm(f"{source}{middle}", f"{target}norm"),
        *linear(f"{source}{first}", f"{target}pwconv1"),
        *linear(f"{source}{second}", f"{target}pwconv2"),
        Rule(f"{source}{scale}", f"{target}scale/gamma"),
    )


def _downsample(stem: tuple[str, str], step: tuple[str, str]) -> Rules:
    """Names of (convolution, norm) of the stem and of the three steps, the latter with a place for the stage's number."""
    pairs = [stem, *(tuple(name.format(stage=stage) for name in step) for stage in (1, 2, 3))]
    out: list[Rule] = []
    for i, (convolved, normed) in enumerate(pairs):
        out += [*conv(convolved, f"backbone/downsample/{i}/conv"), *norm(normed, f"backbone/downsample/{i}/norm")]
    return tuple(out)


_STEPS = (("downsample_layers.0.0", "downsample_layers.0.1"), ("downsample_layers.{stage}.1", "downsample_layers.{stage}.0"))
MMPRETRAIN_RULES = (
    *_downsample(*_STEPS),
    *_blocks("stages.{stage}.{layer}.", "depthwise_conv", "norm", "pointwise_conv1", "pointwise_conv2", "gamma"),
    *norm("norm{stage}", "backbone/norms/{stage}"),
)
RULES = (
    *_downsample(*_STEPS),
    *_blocks("stages.{stage}.{layer}.", "dwconv", "norm", "pwconv1", "pwconv2", "gamma"),
    *norm("norm", "backbone/norms/3"),
)
HF_RULES = (
    *_downsample(
        ("embeddings.patch_embeddings", "embeddings.layernorm"),
        ("encoder.stages.{stage}.downsampling_layer.1", "encoder.stages.{stage}.downsampling_layer.0"),
    ),
    *_blocks("encoder.stages.{stage}.layers.{layer}.", "dwconv", "layernorm", "pwconv1", "pwconv2", "layer_scale_parameter"),
    *norm("layernorm", "backbone/norms/3"),
)
TIMM_RULES = (
    *_downsample(("stem.0", "stem.1"), ("stages.{stage}.downsample.1", "stages.{stage}.downsample.0")),
    *_blocks("stages.{stage}.blocks.{layer}.", "conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma"),
    *norm("head.norm", "backbone/norms/3"),
)
FORMATS = {
    "official": (RULES, (r"head\..*",)),
    "mmpretrain": (MMPRETRAIN_RULES, (r"head\..*",)),
    "hf": (HF_RULES, (r"classifier\..*",)),
    "timm": (TIMM_RULES, (r"head\.fc\..*",)),
}
# Targets that no published file of this family holds; they keep their initial values (the identity).
FRESH = (r"backbone/norms/[012]/.*",)

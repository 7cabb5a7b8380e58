"""ConvNeXt (Liu et al. 2022). Weights: ImageNet-21k models of the authors (MIT), also as mmpretrain, HF and timm files.

Each stage's output is normed before it becomes a map; the stream itself goes on without the norm. Published classifiers hold the norm of
the last stage only, the other three start as the identity, as in the official Rein.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
from flax import nnx

from rein_jax.adapters.base import Adapter, BlockSpec
from rein_jax.backbones.cnn import adapter_of, as_map, as_tokens, run_last, stage_key
from rein_jax.backbones.names import Rules, conv, linear, norm
from rein_jax.backbones.variants import get_variant
from rein_jax.backbones.vit import LayerScale
from rein_jax.errors import UserError
from rein_jax.kernels.gelu import gelu
from rein_jax.layers.conv import conv as convolution
from rein_jax.layers.norm import layer_norm
from rein_jax.layers.stack import stacked
from rein_jax.weight_rules import Rule

EPS = 1e-6


@dataclass(frozen=True)
class ConvNeXtSizes:
    """depths: blocks per stage; widths: channels of the stages."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]


class ConvNeXtBlock(nnx.Module):
    """x + gamma * pwconv2(gelu(pwconv1(LN(7x7 depthwise x)))). Tokens [B, h*w, C], context = (h, w)."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.dwconv = convolution(width, width, 7, groups=width, bias=True, rngs=rngs)
        self.norm = layer_norm(width, EPS, rngs=rngs)
        self.pwconv1 = nnx.Linear(width, 4 * width, rngs=rngs)
        self.pwconv2 = nnx.Linear(4 * width, width, rngs=rngs)
        self.scale = LayerScale(width)

    def __call__(self, tokens, hooks, context):
        x = self.norm(as_tokens(self.dwconv(as_map(tokens, context))))
        y = gelu(hooks.on_linear("pwconv1", x, self.pwconv1(x)))
        y = hooks.on_linear("pwconv2", y, self.pwconv2(y))
        return tokens + hooks.on_mlp(tokens, self.scale(y))

    @staticmethod
    def linears(width: int) -> tuple:
        return (("pwconv1", (width, 4 * width)), ("pwconv2", (4 * width, width)))


class Downsample(nnx.Module):
    """The stem (4x4 convolution, norm) or the step between two stages (norm, 2x2 convolution)."""

    def __init__(self, inner: int, width: int, first: bool, *, rngs: nnx.Rngs):
        self.first, size = first, 4 if first else 2
        self.norm = layer_norm(width if first else inner, EPS, rngs=rngs)
        self.conv = convolution(inner, width, size, stride=size, padding=0, bias=True, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.conv(x)) if self.first else self.conv(self.norm(x))


class ConvNeXt(nnx.Module):
    """ConvNeXt giving four maps at strides 4, 8, 16, 32; one adapter per stage, acting after every block.

    image_size is ignored (nothing depends on it); out_indices are the four stages.
    """

    family = "convnext"
    patch = 32
    VARIANTS = {
        "t": ConvNeXtSizes((3, 3, 9, 3), (96, 192, 384, 768)),
        "b": ConvNeXtSizes((3, 3, 27, 3), (128, 256, 512, 1024)),
        "l": ConvNeXtSizes((3, 3, 27, 3), (192, 384, 768, 1536)),
    }

    def __init__(self, variant: str | ConvNeXtSizes, *, rngs: nnx.Rngs, image_size=512, out_indices=None, remat="none", unroll=False):
        sizes = get_variant(ConvNeXt.VARIANTS, variant, ConvNeXt.family)
        if out_indices is not None and tuple(out_indices) != (0, 1, 2, 3):
            raise UserError(f"config.backbone.out_indices is {tuple(out_indices)}; ConvNeXt gives its four stages, leave it empty.")
        self.sizes, self.remat, self.unroll, self.widths = sizes, remat, unroll, tuple(sizes.widths)
        inner = (3, *sizes.widths[:-1])
        self.downsample = nnx.List([Downsample(a, b, i == 0, rngs=rngs) for i, (a, b) in enumerate(zip(inner, sizes.widths, strict=True))])
        plan = tuple(zip(sizes.depths, sizes.widths, strict=True))
        self.blocks = nnx.List([stacked(lambda r, w=width: ConvNeXtBlock(w, rngs=r), depth, rngs) for depth, width in plan])
        self.norms = nnx.List([layer_norm(width, EPS, rngs=rngs) for width in sizes.widths])
        self.block_specs = tuple(BlockSpec(depth, width, 0, ConvNeXtBlock.linears(width), hook_points=("mlp",)) for depth, width in plan)

    def __call__(self, images, adapters: tuple[Adapter, ...] = (), key=None) -> tuple:
        """Four maps at strides 4, 8, 16, 32. images [B, H, W, 3], normalised, sides multiples of 32."""
        x, maps = images, []
        for i, depth in enumerate(self.sizes.depths):
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

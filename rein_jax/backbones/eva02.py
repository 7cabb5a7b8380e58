"""EVA-02 (Fang et al. 2023): rotary positions beside absolute ones, SwiGLU, no key bias. Weights: MIT.

Two shapes exist: S has fused qkv and SwiGLU without inner norm; B and L ("sub-LN") have separate q, k and v and a norm inside the MLP,
none inside the attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
from flax import nnx

from rein_jax.backbones.names import Rules, linear, norm, patch_embed
from rein_jax.backbones.variants import get_variant
from rein_jax.backbones.vit import Block, Context, ViT, ViTConfig
from rein_jax.kernels.attention import attend
from rein_jax.layers import rope
from rein_jax.layers.attention import split_heads
from rein_jax.layers.hooks import NO_HOOKS
from rein_jax.layers.norm import layer_norm
from rein_jax.weight_rules import Rule


@dataclass(frozen=True)
class EVA02Config(ViTConfig):
    """sub_norm: separate q, k, v and a norm inside the MLP."""

    gated: bool = True
    sub_norm: bool = True


class SeparateAttention(nnx.Module):
    """Self-attention with linears q (bias), k (none) and v (bias), which adapters see as three. [B, N, d] -> [B, N, d]."""

    def __init__(self, embed_dim: int, num_heads: int, *, rngs: nnx.Rngs):
        self.num_heads = num_heads
        self.q = nnx.Linear(embed_dim, embed_dim, rngs=rngs)
        self.k = nnx.Linear(embed_dim, embed_dim, use_bias=False, rngs=rngs)
        self.v = nnx.Linear(embed_dim, embed_dim, rngs=rngs)
        self.proj = nnx.Linear(embed_dim, embed_dim, rngs=rngs)

    def __call__(self, x, hooks=None, rotate=None, allowed=None):
        hooks = hooks or NO_HOOKS
        q, k, v = (
            split_heads(hooks.on_linear(name, x, part(x)), self.num_heads) for name, part in (("q", self.q), ("k", self.k), ("v", self.v))
        )
        if rotate is not None:
            q, k = rotate(q), rotate(k)
        y = attend(q, k, v, allowed=allowed).reshape(x.shape)
        return hooks.on_linear("proj", y, self.proj(y))


class NormedSwiGLU(nnx.Module):
    """w3(LN(silu(w1 x) * w2 x)). [..., d] -> [..., d]."""

    def __init__(self, embed_dim: int, hidden: int, eps: float, *, rngs: nnx.Rngs):
        self.w1 = nnx.Linear(embed_dim, hidden, rngs=rngs)
        self.w2 = nnx.Linear(embed_dim, hidden, rngs=rngs)
        self.ffn_ln = layer_norm(hidden, eps, rngs=rngs)
        self.w3 = nnx.Linear(hidden, embed_dim, rngs=rngs)

    def __call__(self, x, hooks=None):
        hooks = hooks or NO_HOOKS
        gate, value = hooks.on_linear("w1", x, self.w1(x)), hooks.on_linear("w2", x, self.w2(x))
        y = self.ffn_ln(jax.nn.silu(gate) * value)
        return hooks.on_linear("w3", y, self.w3(y))


class SubNormBlock(nnx.Module):
    """x += attn(LN x); x += mlp(LN x), with the parts above."""

    def __init__(self, config: EVA02Config, *, eps: float, rngs: nnx.Rngs):
        self.norm1 = layer_norm(config.embed_dim, eps, rngs=rngs)
        self.attn = SeparateAttention(config.embed_dim, config.num_heads, rngs=rngs)
        self.norm2 = layer_norm(config.embed_dim, eps, rngs=rngs)
        self.mlp = NormedSwiGLU(config.embed_dim, config.hidden_dim, eps, rngs=rngs)

    def __call__(self, x, hooks=None, context: Context | None = None):
        hooks = hooks or NO_HOOKS
        x = x + self.attn(self.norm1(x), hooks, *(context or ()))
        return x + hooks.on_mlp(x, self.mlp(self.norm2(x), hooks))

    @staticmethod
    def linears(config: EVA02Config) -> tuple:
        d, hidden = config.embed_dim, config.hidden_dim
        return tuple((name, (d, d)) for name in ("q", "k", "v", "proj")) + (("w1", (d, hidden)), ("w2", (d, hidden)), ("w3", (hidden, d)))


class EVA02(ViT):
    """EVA-02 giving four maps. Rotary positions are computed, never loaded: along each side they run over 16 units (the grid of
    pretraining), as the official code does for the size a model is built for; absolute positions are resized to match other sizes.

    Args:
        variant: "s", "b", "l", with or without "eva02_" in front; or an EVA02Config.
        **kwargs: of `ViT`: rngs, image_size, patch, out_indices, remat, unroll, final_norm.
    """

    family = "eva02"
    VARIANTS = {
        "s": EVA02Config(384, 12, 6, hidden=1024, patch=14, sub_norm=False),
        "b": EVA02Config(768, 12, 12, hidden=2048, patch=14),
        "l": EVA02Config(1024, 24, 16, hidden=2730, patch=14),
    }
    interpolate_offset = 0.0
    key_bias = False

    def make_block(self, config: EVA02Config, rngs: nnx.Rngs) -> nnx.Module:
        if config.sub_norm:
            return SubNormBlock(config, eps=self.eps, rngs=rngs)
        return super().make_block(config, rngs)

    def linears(self, config: EVA02Config) -> tuple:
        return (SubNormBlock if config.sub_norm else Block).linears(config)

    def context(self, grid: tuple[int, int], dtype) -> Context:
        cos, sin = rope.tables(grid, self.config.embed_dim // self.config.num_heads)
        return Context(partial(rope.rotate, cos=cos, sin=sin))


def _attention(config: EVA02Config, source: str, target: str, timm: bool) -> Rules:
    """q, k and v: fused or separate; their biases are parameters of their own, but for timm's separate linears."""
    kernel = lambda theirs, ours: Rule(f"{source}{theirs}.weight", f"{target}{ours}/kernel", "linear")
    if not config.sub_norm:
        bias = f"{target}qkv/bias"
        stored = tuple(Rule(f"{source}{name}_bias", bias, part=(k, 3)) for k, name in ((0, "q"), (2, "v")))
        return (kernel("qkv", "qkv"), *stored, Rule("", bias, "zeros", part=(1, 3)))
    bias_name = "{}_proj.bias" if timm else "{}_bias"
    biases = tuple(Rule(source + bias_name.format(name), f"{target}{name}/bias") for name in "qv")
    return (*(kernel(f"{name}_proj", name) for name in "qkv"), *biases)


def _table(config: EVA02Config, *, timm: bool = False) -> Rules:
    source, target = "blocks.{layer}.", "backbone/blocks/"
    out = [rule for name in ("norm1", "norm2") for rule in norm(source + name, target + name)]
    out += [*_attention(config, f"{source}attn.", f"{target}attn/", timm), *linear(f"{source}attn.proj", f"{target}attn/proj")]
    if config.sub_norm:
        out += norm(f"{source}mlp.{'norm' if timm else 'ffn_ln'}", f"{target}mlp/ffn_ln")
        inner = (("fc1_g", "w1"), ("fc1_x", "w2"), ("fc2", "w3")) if timm else (("w1", "w1"), ("w2", "w2"), ("w3", "w3"))
    else:
        inner = (("fc1", "w12"), ("fc2", "w3")) if timm else (("w12", "w12"), ("w3", "w3"))
    for theirs, ours in inner:
        out += linear(f"{source}mlp.{theirs}", f"{target}mlp/{ours}")
    return (
        Rule("cls_token", "backbone/cls_token"),
        Rule("pos_embed", "backbone/pos_embed", resize="pos_embed"),
        *patch_embed("patch_embed.proj"),
        *out,
    )


# Rotary tables are recomputed; the rest belongs to pretraining or classification.
SKIP = (r"(blocks\.\d+\.attn\.)?rope\..*", r"mask_token", r"norm\..*", r"fc_norm\..*", r"head\..*", r"lm_head\..*")
FINAL_NORM = {"official": "norm", "timm": "norm"}  # its name in the file, for `final_norm`


def formats(variant: str | ViTConfig) -> dict[str, tuple[Rules, tuple[str, ...]]]:
    """Tables of names by format; they depend on the variant's shape of block."""
    config = get_variant(EVA02.VARIANTS, variant, EVA02.family)
    return {"official": (_table(config), SKIP), "timm": (_table(config, timm=True), SKIP)}

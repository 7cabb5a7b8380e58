"""DINOv3 (Simeoni et al. 2025): rotary positions alone, four registers, no key bias. Weights: DINOv3 licence.

Any input size runs with the same weights: nothing is resized. The rescaled coordinates of pretraining are never drawn, as the official
code does not in evaluation. The final norm is not part of the module, as for DINOv2. Files are those trained on web images (LVD-1689M); the
satellite ones (SAT-493M) want another normalisation of the image. The 7B model is not offered.
"""

from __future__ import annotations

from functools import partial

from rein_jax.backbones.names import Rules, linear, norm, patch_embed, timm_block
from rein_jax.backbones.variants import get_variant
from rein_jax.backbones.vit import Context, ViT, ViTConfig
from rein_jax.errors import UserError
from rein_jax.layers import rope
from rein_jax.weight_rules import Rule

PERIODS = ("float32", "bfloat16")


class DINOv3(ViT):
    """DINOv3 giving four maps. "plus" variants have a SwiGLU in place of the MLP.

    Args:
        variant: "vits16", "vits16plus", "vitb16", "vitl16", "vith16plus", with or without "dinov3_" in front; or a ViTConfig.
        rope_periods: "float32", as transformers and timm compute the periods of the rotation, or "bfloat16", as the official files hold
            them.
        **kwargs: of `ViT`: rngs, image_size, patch, out_indices, remat, unroll, final_norm.
    """

    family = "dinov3"
    VARIANTS = {
        "vits16": ViTConfig(384, 12, 6, registers=4),
        "vits16plus": ViTConfig(384, 12, 6, registers=4, gated=True, hidden=1536),
        "vitb16": ViTConfig(768, 12, 12, registers=4),
        "vitl16": ViTConfig(1024, 24, 16, registers=4),
        "vith16plus": ViTConfig(1280, 32, 20, registers=4, gated=True, hidden=5120),
    }
    eps = 1e-5
    layer_scale = True
    key_bias = False
    absolute = False

    def __init__(self, variant, *, rope_periods: str = "float32", **kwargs):
        super().__init__(variant, **kwargs)
        if rope_periods not in PERIODS:
            raise UserError(f"config.backbone.options.rope_periods is {rope_periods!r}; choose one of {', '.join(PERIODS)}.")
        self.rope_periods = rope_periods

    def context(self, grid: tuple[int, int], dtype) -> Context:
        cos, sin = rope.axial_tables(grid, self.config.embed_dim // self.config.num_heads, periods=self.rope_periods)
        return Context(partial(rope.rotate_halves, cos=cos, sin=sin))


_OURS, _BLOCK, _HF = "backbone/blocks/", "blocks.{layer}.", "layer.{layer}."


def _mlp(gated: bool, source: str, plain: tuple[str, str], gate: tuple[str, str, str]) -> Rules:
    """An MLP, or a SwiGLU whose gate and value (ours are one map) are stored apart."""
    ours = f"{_OURS}mlp/"
    if not gated:
        return (*linear(source + plain[0], f"{ours}fc1"), *linear(source + plain[1], f"{ours}fc2"))
    halves = (rule for k in (0, 1) for rule in linear(source + gate[k], f"{ours}w12", (k, 2)))
    return (*halves, *linear(source + gate[2], f"{ours}w3"))


def _query_value(query: str, value: str) -> Rules:
    """The biases of q and v, k's being zero."""
    bias = f"{_OURS}attn/qkv/bias"
    return Rule(query, bias, part=(0, 3)), Rule("", bias, "zeros", part=(1, 3)), Rule(value, bias, part=(2, 3))


def _official(gated: bool) -> Rules:
    """Meta's names. What stands in the file for k's bias is no parameter: its mask makes it zero, as QueryValueBias does."""
    return (
        Rule("cls_token", "backbone/cls_token"),
        Rule("storage_tokens", "backbone/register_tokens"),
        *patch_embed("patch_embed.proj"),
        *(rule for rule in timm_block(_BLOCK, _OURS) if ".mlp." not in rule.source),
        *_mlp(gated, f"{_BLOCK}mlp.", ("fc1", "fc2"), ("w1", "w2", "w3")),
    )


def _timm(gated: bool, biases: bool) -> Rules:
    """timm's names; most of its files leave the biases of q and v out, which are zero in the published ones."""
    bias = _query_value(f"{_BLOCK}attn.q_bias", f"{_BLOCK}attn.v_bias") if biases else (Rule("", f"{_OURS}attn/qkv/bias", "zeros"),)
    return (
        Rule("cls_token", "backbone/cls_token"),
        Rule("reg_token", "backbone/register_tokens"),
        *patch_embed("patch_embed.proj"),
        *(rule for name in ("norm1", "norm2") for rule in norm(_BLOCK + name, _OURS + name)),
        Rule(f"{_BLOCK}attn.qkv.weight", f"{_OURS}attn/qkv/kernel", "linear"),
        *bias,
        *linear(f"{_BLOCK}attn.proj", f"{_OURS}attn/proj"),
        *_mlp(gated, f"{_BLOCK}mlp.", ("fc1", "fc2"), ("fc1_g", "fc1_x", "fc2")),
        *(Rule(f"{_BLOCK}gamma_{k}", f"{_OURS}ls{k}/gamma") for k in (1, 2)),
    )


def _hf(gated: bool) -> Rules:
    attention = f"{_HF}attention."
    return (
        Rule("embeddings.cls_token", "backbone/cls_token"),
        Rule("embeddings.register_tokens", "backbone/register_tokens"),
        *patch_embed("embeddings.patch_embeddings"),
        *(rule for name in ("norm1", "norm2") for rule in norm(_HF + name, _OURS + name)),
        *(Rule(f"{attention}{name}_proj.weight", f"{_OURS}attn/qkv/kernel", "linear", (k, 3)) for k, name in enumerate("qkv")),
        *_query_value(f"{attention}q_proj.bias", f"{attention}v_proj.bias"),
        *linear(f"{attention}o_proj", f"{_OURS}attn/proj"),
        *_mlp(gated, f"{_HF}mlp.", ("up_proj", "down_proj"), ("gate_proj", "up_proj", "down_proj")),
        *(Rule(f"{_HF}layer_scale{k}.lambda1", f"{_OURS}ls{k}/gamma") for k in (1, 2)),
    )


# Constants (the mask of k's bias, the periods of the rotation), and what belongs to pretraining or comes after the blocks.
SKIP = (r"blocks\.\d+\.attn\.qkv\.bias_mask", r"rope_embed\.periods", r"(embeddings\.)?mask_token", r"norm\..*", r"local_cls_norm\..*",
        r"head\..*")
FINAL_NORM = {"official": "norm", "hf": "norm", "timm": "norm", "timm (qkvb)": "norm"}  # its name in the file, for `final_norm`


def formats(variant: str | ViTConfig) -> dict[str, tuple[Rules, tuple[str, ...]]]:
    """Tables of names by format; they depend on the kind of MLP."""
    gated = get_variant(DINOv3.VARIANTS, variant, DINOv3.family).gated
    tables = {"official": _official(gated), "hf": _hf(gated), "timm": _timm(gated, False), "timm (qkvb)": _timm(gated, True)}
    return {name: (rules, SKIP) for name, rules in tables.items()}

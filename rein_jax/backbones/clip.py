"""CLIP's image encoder (Radford et al. 2021) as Rein uses it. Weights: MIT.

Two things are as in the official Rein and not as in CLIP: the class embedding is added twice (as the token and within its position), and
positions are resized bilinearly. `ln_post` and the projection are not part of the module: the blocks' outputs are the features.
"""

from __future__ import annotations

from flax import nnx

from rein_jax.backbones.names import fused_qkv, linear, norm, timm_block
from rein_jax.backbones.vit import ViT, ViTConfig
from rein_jax.layers.fpn import FeaturePyramid
from rein_jax.layers.mlp import quick_gelu
from rein_jax.layers.norm import layer_norm
from rein_jax.weight_rules import Rule


class CLIP(ViT):
    """CLIP ViT giving four maps.

    Args:
        variant: "vitb16", "vitl14", with or without "clip_" in front; or a ViTConfig.
        rngs: of random initial values (default: nnx.Rngs(0)).
        fpn: learned rescaling (`layers/fpn.py`) in place of bilinear resizing, as the official Rein-CLIP trains it beside the adapters;
            name `backbone/fpn/` among the trainable patterns.
        class_twice: add the class embedding twice, as the official Rein does; False is CLIP as published.
        **kwargs: of `ViT`: image_size, patch, out_indices, remat, unroll, final_norm.
    """

    family = "clip"
    VARIANTS = {"vitb16": ViTConfig(768, 12, 12), "vitl14": ViTConfig(1024, 24, 16, patch=14)}
    eps = 1e-5
    patch_bias = False
    activation = staticmethod(quick_gelu)
    interpolate_offset = 0.0
    position_kind = "bilinear"

    def __init__(self, variant, *, rngs: nnx.Rngs | None = None, fpn: bool = False, class_twice: bool = True, **kwargs):
        rngs = rngs or nnx.Rngs(0)
        super().__init__(variant, rngs=rngs, **kwargs)
        self.class_twice = class_twice
        self.ln_pre = layer_norm(self.config.embed_dim, self.eps, rngs=rngs)
        self.fpn = FeaturePyramid(self.config.embed_dim, rngs=rngs) if fpn else None

    def embed(self, images):
        x, grid = super().embed(images)
        if self.class_twice:
            x = x.at[:, :1].add(self.cls_token[...].astype(x.dtype))
        return self.ln_pre(x), grid

    def to_maps(self, maps) -> tuple:
        return self.fpn(maps) if self.fpn is not None else super().to_maps(maps)


_BLOCK, _OURS = "transformer.resblocks.{layer}.", "backbone/blocks/"
RULES = (
    Rule("class_embedding", "backbone/cls_token", "expand2"),
    Rule("positional_embedding", "backbone/pos_embed", "expand", resize="pos_embed_bilinear"),
    Rule("conv1.weight", "backbone/patch_embed/kernel", "conv", resize="patch"),
    *norm("ln_pre", "backbone/ln_pre"),
    *norm(f"{_BLOCK}ln_1", f"{_OURS}norm1"),
    Rule(f"{_BLOCK}attn.in_proj_weight", f"{_OURS}attn/qkv/kernel", "linear"),
    Rule(f"{_BLOCK}attn.in_proj_bias", f"{_OURS}attn/qkv/bias"),
    *linear(f"{_BLOCK}attn.out_proj", f"{_OURS}attn/proj"),
    *norm(f"{_BLOCK}ln_2", f"{_OURS}norm2"),
    *linear(f"{_BLOCK}mlp.c_fc", f"{_OURS}mlp/fc1"),
    *linear(f"{_BLOCK}mlp.c_proj", f"{_OURS}mlp/fc2"),
)
SKIP = (r"ln_post\..*", r"proj")

_LAYER = "encoder.layers.{layer}."
HF_RULES = (
    Rule("embeddings.class_embedding", "backbone/cls_token", "expand2"),
    Rule("embeddings.position_embedding.weight", "backbone/pos_embed", "expand", resize="pos_embed_bilinear"),
    Rule("embeddings.patch_embedding.weight", "backbone/patch_embed/kernel", "conv", resize="patch"),
    *norm("pre_layrnorm", "backbone/ln_pre"),
    *norm(f"{_LAYER}layer_norm1", f"{_OURS}norm1"),
    *fused_qkv(f"{_LAYER}self_attn.", f"{_OURS}attn/qkv", ("q_proj", "k_proj", "v_proj")),
    *linear(f"{_LAYER}self_attn.out_proj", f"{_OURS}attn/proj"),
    *norm(f"{_LAYER}layer_norm2", f"{_OURS}norm2"),
    *linear(f"{_LAYER}mlp.fc1", f"{_OURS}mlp/fc1"),
    *linear(f"{_LAYER}mlp.fc2", f"{_OURS}mlp/fc2"),
)
HF_SKIP = (r"embeddings\.position_ids", r"post_layernorm\..*")

TIMM_RULES = (
    Rule("cls_token", "backbone/cls_token"),
    Rule("pos_embed", "backbone/pos_embed", resize="pos_embed_bilinear"),
    Rule("patch_embed.proj.weight", "backbone/patch_embed/kernel", "conv", resize="patch"),
    *norm("norm_pre", "backbone/ln_pre"),
    *timm_block("blocks.{layer}.", _OURS),
)
TIMM_SKIP = (r"norm\..*", r"head\..*")
FORMATS = {"official": (RULES, SKIP), "hf": (HF_RULES, HF_SKIP), "timm": (TIMM_RULES, TIMM_SKIP)}
# Targets that no published file of this family holds; they keep their initial values.
FRESH = (r"backbone/fpn/.*",)
FINAL_NORM = {"official": "ln_post", "hf": "post_layernorm", "timm": "norm"}  # its name in the file, for `final_norm`

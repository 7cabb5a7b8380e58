"""DINOv2 (Oquab et al. 2023), with and without registers (Darcet et al. 2024), run at patch 16 as Rein does.

The final norm is not part of the module: Rein reads the blocks' outputs as they are. Weights: Apache-2.0.
"""

from __future__ import annotations

from dataclasses import replace

from rein_jax.backbones.names import fused_qkv, linear, norm, patch_embed, timm_block
from rein_jax.backbones.variants import get_variant
from rein_jax.backbones.vit import ViT, ViTConfig
from rein_jax.weight_rules import Rule

_G = dict(embed_dim=1536, depth=40, num_heads=24, gated=True, hidden=4096, patch=14)
_SIZES = {
    "vits14": ViTConfig(384, 12, 6, patch=14),
    "vitb14": ViTConfig(768, 12, 12, patch=14),
    "vitl14": ViTConfig(1024, 24, 16, patch=14),
    "vitg14": ViTConfig(**_G),
    "vits14_reg": ViTConfig(384, 12, 6, registers=4, patch=14),
    "vitb14_reg": ViTConfig(768, 12, 12, registers=4, patch=14),
    "vitl14_reg": ViTConfig(1024, 24, 16, registers=4, patch=14),
    "vitg14_reg": ViTConfig(**_G, registers=4),
}


class DINOv2(ViT):
    """DINOv2 giving four maps: a pre-norm ViT with LayerScale, run at patch 16.

    Args:
        variant: "vits14", "vitb14", "vitl14", "vitg14", each also with "_reg" (registers) behind, with or without "dinov2_" in front; or a
            ViTConfig.
        interpolate_offset: how positions are resized on the fly; None: as the official models, 0.1 without registers, with them 0.
        **kwargs: of `ViT`: rngs, image_size, patch, out_indices, remat, unroll, final_norm.

    Example:
        backbone = rj.DINOv2.from_pretrained("dinov2_vitl14", image_size=512)
    """

    family = "dinov2"
    VARIANTS = _SIZES
    layer_scale = True

    def __init__(self, variant, *, interpolate_offset: float | None = None, **kwargs):
        super().__init__(variant, **kwargs)
        self.position_kind = "antialiased" if self.config.registers else "bicubic"
        self.interpolate_offset = (0.0 if self.config.registers else 0.1) if interpolate_offset is None else interpolate_offset


RULES = (
    Rule("cls_token", "backbone/cls_token"),
    Rule("pos_embed", "backbone/pos_embed", resize="pos_embed"),
    Rule("register_tokens", "backbone/register_tokens"),
    *patch_embed("patch_embed.proj"),
    *timm_block("blocks.{layer}.", "backbone/blocks/"),
)
SKIP = (r"mask_token", r"norm\..*", r"head\..*")

_HF = "encoder.layer.{layer}."
HF_RULES = (
    Rule("embeddings.cls_token", "backbone/cls_token"),
    Rule("embeddings.position_embeddings", "backbone/pos_embed", resize="pos_embed"),
    Rule("embeddings.register_tokens", "backbone/register_tokens"),
    *patch_embed("embeddings.patch_embeddings.projection"),
    *norm(f"{_HF}norm1", "backbone/blocks/norm1"),
    *fused_qkv(f"{_HF}attention.attention.", "backbone/blocks/attn/qkv", ("query", "key", "value")),
    *linear(f"{_HF}attention.output.dense", "backbone/blocks/attn/proj"),
    *norm(f"{_HF}norm2", "backbone/blocks/norm2"),
    *linear(f"{_HF}mlp.fc1", "backbone/blocks/mlp/fc1"),
    *linear(f"{_HF}mlp.fc2", "backbone/blocks/mlp/fc2"),
    *linear(f"{_HF}mlp.weights_in", "backbone/blocks/mlp/w12"),
    *linear(f"{_HF}mlp.weights_out", "backbone/blocks/mlp/w3"),
    Rule(f"{_HF}layer_scale1.lambda1", "backbone/blocks/ls1/gamma"),
    Rule(f"{_HF}layer_scale2.lambda1", "backbone/blocks/ls2/gamma"),
)
HF_SKIP = (r"embeddings\.mask_token", r"layernorm\..*", r"classifier\..*")



def _timm(gated: bool) -> tuple[Rule, ...]:
    """timm keeps the official names but for registers and the gated MLP of g."""

    def name(source: str) -> str:
        return source.replace("register_tokens", "reg_token").replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2.")

    unused = ".mlp.fc" if gated else ".mlp.w"
    return tuple(replace(rule, source=name(rule.source)) for rule in RULES if unused not in rule.source)
FINAL_NORM = {"official": "norm", "hf": "layernorm", "timm": "norm"}  # its name in the file, for `final_norm`


def formats(variant: str | ViTConfig) -> dict[str, tuple[tuple[Rule, ...], tuple[str, ...]]]:
    """Tables of names by format. timm's depends on the variant."""
    config = get_variant(DINOv2.VARIANTS, variant, DINOv2.family)
    return {"official": (RULES, SKIP), "hf": (HF_RULES, HF_SKIP), "timm": (_timm(config.gated), SKIP)}

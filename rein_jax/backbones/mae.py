"""MAE's encoder (He et al. 2022): a plain ViT without LayerScale. Weights: CC-BY-NC 4.0.

The paper's count for MAE-L (330.94M) is that of mmseg's MAE with its index buffers; the encoder run at 512 has 304.15M.
"""

from __future__ import annotations

from rein_jax.backbones.names import fused_qkv, linear, norm, patch_embed, timm_block
from rein_jax.backbones.vit import ViT, ViTConfig
from rein_jax.weight_rules import Rule


class MAE(ViT):
    """MAE ViT giving four maps.

    Args:
        variant: "b", "l", "h", with or without "mae_" in front; or a ViTConfig.
        **kwargs: of `ViT`: rngs, image_size, patch, out_indices, remat, unroll, final_norm.
    """

    family = "mae"
    VARIANTS = {"b": ViTConfig(768, 12, 12), "l": ViTConfig(1024, 24, 16), "h": ViTConfig(1280, 32, 16, patch=14)}
    interpolate_offset = 0.0


RULES = (
    Rule("cls_token", "backbone/cls_token"),
    Rule("pos_embed", "backbone/pos_embed", resize="pos_embed"),
    *patch_embed("patch_embed.proj"),
    *timm_block("blocks.{layer}.", "backbone/blocks/"),
)
# The decoder of pretraining (in the "full" files), the encoder's norm and a classifier.
SKIP = (r"norm\..*", r"fc_norm\..*", r"head\..*", r"mask_token", r"decoder_.*")

_LAYER, _OURS = "encoder.layer.{layer}.", "backbone/blocks/"
HF_RULES = (
    Rule("embeddings.cls_token", "backbone/cls_token"),
    Rule("embeddings.position_embeddings", "backbone/pos_embed", resize="pos_embed"),
    *patch_embed("embeddings.patch_embeddings.projection"),
    *norm(f"{_LAYER}layernorm_before", f"{_OURS}norm1"),
    *fused_qkv(f"{_LAYER}attention.attention.", f"{_OURS}attn/qkv", ("query", "key", "value")),
    *linear(f"{_LAYER}attention.output.dense", f"{_OURS}attn/proj"),
    *norm(f"{_LAYER}layernorm_after", f"{_OURS}norm2"),
    *linear(f"{_LAYER}intermediate.dense", f"{_OURS}mlp/fc1"),
    *linear(f"{_LAYER}output.dense", f"{_OURS}mlp/fc2"),
)
HF_SKIP = (r"layernorm\..*", r"decoder\..*")
# timm names its MAE encoders as the official files do: one table serves both.
FORMATS = {"official": (RULES, SKIP), "hf": (HF_RULES, HF_SKIP)}
FINAL_NORM = {"official": "norm", "hf": "layernorm"}  # its name in the file, for `final_norm`

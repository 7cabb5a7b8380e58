"""DINOv2 (Oquab et al. 2023), with and without registers (Darcet et al. 2024), run at patch 16 as Rein does.

The final norm is not part of the module: Rein reads the blocks' outputs as they are. Weights: Apache-2.0.
"""

from __future__ import annotations

from rein_jax.backbones.vit import Sizes, ViT
from rein_jax.weights.rules import Rule

_G = dict(width=1536, depth=40, heads=24, gated=True, hidden=4096, patch=14)
_SIZES = {
    "vits14": Sizes(384, 12, 6, patch=14),
    "vitb14": Sizes(768, 12, 12, patch=14),
    "vitl14": Sizes(1024, 24, 16, patch=14),
    "vitg14": Sizes(**_G),
    "vits14_reg": Sizes(384, 12, 6, registers=4, patch=14),
    "vitb14_reg": Sizes(768, 12, 12, registers=4, patch=14),
    "vitl14_reg": Sizes(1024, 24, 16, registers=4, patch=14),
    "vitg14_reg": Sizes(**_G, registers=4),
}


class DINOv2(ViT):
    """Pre-norm ViT with LayerScale; `interpolate_offset` is 0.1 in the official models without registers, 0 with them."""

    family = "dinov2"
    VARIANTS = _SIZES
    layer_scale = True

    def __init__(self, variant, *, interpolate_offset: float | None = None, **kwargs):
        super().__init__(variant, **kwargs)
        self.interpolate_offset = (0.0 if self.sizes.registers else 0.1) if interpolate_offset is None else interpolate_offset


def _block_rules(source: str, target: str) -> tuple[Rule, ...]:
    out = []
    for norm in ("norm1", "norm2"):
        out += [Rule(f"{source}{norm}.weight", f"{target}{norm}/scale"), Rule(f"{source}{norm}.bias", f"{target}{norm}/bias")]
    for linear in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "mlp.w12", "mlp.w3"):
        path = target + linear.replace(".", "/")
        out += [Rule(f"{source}{linear}.weight", f"{path}/kernel", "linear"), Rule(f"{source}{linear}.bias", f"{path}/bias")]
    out += [Rule(f"{source}{ls}.gamma", f"{target}{ls}/gamma") for ls in ("ls1", "ls2")]
    return tuple(out)


RULES = (
    Rule("cls_token", "backbone/cls_token"),
    Rule("pos_embed", "backbone/pos_embed", resize="pos_embed"),
    Rule("register_tokens", "backbone/register_tokens"),
    Rule("patch_embed.proj.weight", "backbone/patch_embed/kernel", "conv", resize="patch"),
    Rule("patch_embed.proj.bias", "backbone/patch_embed/bias"),
    *_block_rules("blocks.{layer}.", "backbone/blocks/"),
)
SKIP = (r"mask_token", r"norm\..*", r"head\..*")

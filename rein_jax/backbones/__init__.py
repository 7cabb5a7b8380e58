"""Frozen foundation models. One more family is one file here and one line a variant below."""

_DINOV2 = tuple(f"vit{size}14{registers}" for registers in ("", "_reg") for size in "sblg")
_FAMILIES = {
    "dinov2": ("rein_jax.backbones.dinov2:DINOv2", _DINOV2),
    "dinov3": ("rein_jax.backbones.dinov3:DINOv3", ("vits16", "vits16plus", "vitb16", "vitl16", "vith16plus")),
    "eva02": ("rein_jax.backbones.eva02:EVA02", ("s", "b", "l")),
    "clip": ("rein_jax.backbones.clip:CLIP", ("vitb16", "vitl14")),
    "mae": ("rein_jax.backbones.mae:MAE", ("b", "l", "h")),
    "sam": ("rein_jax.backbones.sam:SAM", ("b", "l", "h")),
    "resnet": ("rein_jax.backbones.resnet:ResNet", ("50", "101")),
    "convnext": ("rein_jax.backbones.convnext:ConvNeXt", ("t", "b", "l")),
}
# "dinov2_vitl14" -> "rein_jax.backbones.dinov2:DINOv2"; the class finds its sizes in VARIANTS of its own file.
BACKBONES = {f"{family}_{variant}": target for family, (target, variants) in _FAMILIES.items() for variant in variants}

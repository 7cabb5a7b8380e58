"""Frozen foundation models. A new family is one file here and one line per variant below."""

from typing import TYPE_CHECKING

from rein_jax.registry import lazily, typed_names

if TYPE_CHECKING:
    from rein_jax.backbones.base import Backbone as Backbone
    from rein_jax.backbones.clip import CLIP as CLIP
    from rein_jax.backbones.convnext import ConvNeXt as ConvNeXt
    from rein_jax.backbones.dinov2 import DINOv2 as DINOv2
    from rein_jax.backbones.dinov3 import DINOv3 as DINOv3
    from rein_jax.backbones.eva02 import EVA02 as EVA02
    from rein_jax.backbones.mae import MAE as MAE
    from rein_jax.backbones.resnet import ResNet as ResNet
    from rein_jax.backbones.sam import SAM as SAM
    from rein_jax.backbones.vit import ViT as ViT
    from rein_jax.backbones.vit import ViTConfig as ViTConfig

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
FAMILIES = {family: target for family, (target, _) in _FAMILIES.items()}  # with your own sizes: backbone.options.variant
# "dinov2_vitl14" -> "rein_jax.backbones.dinov2:DINOv2"; the class finds its sizes in VARIANTS of its own file.
BACKBONES = {f"{family}_{variant}": target for family, (target, variants) in _FAMILIES.items() for variant in variants}

_PUBLIC = typed_names(__name__, __file__)
__all__ = sorted(_PUBLIC)
__getattr__ = lazily(__name__, _PUBLIC)

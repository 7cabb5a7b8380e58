"""Losses. The key is what `config.loss.name` says."""

from typing import TYPE_CHECKING

from rein_jax.registry import lazily, typed_names

if TYPE_CHECKING:
    from rein_jax.losses.mask_loss import Draws as Draws
    from rein_jax.losses.mask_loss import MaskLoss as MaskLoss
    from rein_jax.losses.pixel_loss import PixelLoss as PixelLoss

LOSS_OF = {"mask2former": "mask", "eomt": "mask", "semantic_fpn": "pixel", "linear": "pixel"}  # the loss that fits what a head gives
LOSSES = {
    "pixel": "rein_jax.losses.pixel_loss:PixelLoss",
    "mask": "rein_jax.losses.mask_loss:MaskLoss",
}

_PUBLIC = typed_names(__name__, __file__)
__all__ = sorted(_PUBLIC)
__getattr__ = lazily(__name__, _PUBLIC)

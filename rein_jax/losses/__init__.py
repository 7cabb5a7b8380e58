"""Losses. The key is what `config.loss.name` says."""

LOSS_OF = {"mask2former": "mask", "eomt": "mask", "semantic_fpn": "pixel", "linear": "pixel"}  # the loss that fits what a head gives
LOSSES = {
    "pixel": "rein_jax.losses.pixel_loss:PixelLoss",
    "mask": "rein_jax.losses.mask_loss:MaskLoss",
}

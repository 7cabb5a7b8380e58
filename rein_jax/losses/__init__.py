"""Losses. The key is what `config.loss.name` says."""

LOSSES = {
    "pixel": "rein_jax.losses.pixel_loss:PixelLoss",
    "mask": "rein_jax.losses.mask_loss:MaskLoss",
}

"""AdvStyle (Zhong et al., NeurIPS 2022): each image's channel statistics take one step uphill on the loss, and the model trains on both."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rein_jax.augment.masks import channel_statistics, real_pixels
from rein_jax.errors import UserError


class AdvStyle:
    """x+ = sigma+ (x - mu) / sigma + mu+, where (mu+, sigma+) = (mu, sigma) + step along the loss's gradient to them; images in [0, 1].

    gamma: length of the step. normalise: True scales each image's gradient (over its 6 statistics) to unit length, so that gamma means the
    same for every loss and batch size; False is the plain step gamma * gradient of the one public re-implementation (its gamma is 1.0 for a
    mean cross-entropy; the official segmentation value is not known). both: train on [x; x+] as published (a batch of twice the
    size), or on x+ alone. With normalise sigma+ stays above 1e-3, or above sigma where that is less; the plain step has no limit.
    """

    def __init__(self, gamma: float = 0.1, normalise: bool = True, both: bool = True):
        if not gamma >= 0:
            raise UserError(f"config.augment.gamma is {gamma}; it must be at least 0.")
        self.gamma, self.normalise, self.both = gamma, normalise, both

    def __call__(self, batch, key, loss_fn):
        adversarial = jax.lax.stop_gradient(self.restyle(batch, loss_fn))
        if not self.both:
            return {**batch, "image": adversarial}
        doubled = {name: jnp.concatenate([value, value]) for name, value in batch.items()}
        return {**doubled, "image": jnp.concatenate([batch["image"].astype(jnp.float32), adversarial])}

    def restyle(self, batch, loss_fn):
        """The adversarial images, float32 in units of 0..255; padding stays 0."""
        mask = real_pixels(batch)
        x = batch["image"].astype(jnp.float32) / 255.0
        mean, std = channel_statistics(x, mask)
        std = std + 1e-6
        plain = (x - mean) / std

        def styled(statistics):
            return (statistics[1] * plain + statistics[0]) * mask * 255.0

        gradient = jax.grad(lambda s: loss_fn({**batch, "image": styled(s)}))(jnp.stack([mean, std]))
        if self.normalise:
            length = jnp.sqrt(jnp.square(gradient).sum((0, 2, 3, 4), keepdims=True))
            gradient = gradient / jnp.maximum(length, 1e-20)
        gradient = jnp.where(jnp.isfinite(gradient), gradient, 0.0)
        new_mean, new_std = jnp.stack([mean, std]) + self.gamma * gradient
        if self.normalise:
            new_std = jnp.maximum(new_std, jnp.minimum(std, 1e-3))  # a channel must not be mirrored
        return styled((new_mean, new_std))

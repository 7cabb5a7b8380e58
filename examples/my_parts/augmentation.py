"""An augmentation of one's own: it runs inside the compiled training step, on the device."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

import rein_jax as rj


@rj.register("augmentation", "brightness")
class Brightness:
    """Adds one random number to every image; `most` is an option that configs may set."""

    def __init__(self, most: float = 30.0):
        self.most = most

    def __call__(self, batch: dict[str, jax.Array], key: jax.Array, loss_fn: Callable | None = None) -> dict[str, jax.Array]:
        """batch["image"]: uint8 [B, H, W, 3]. loss_fn(batch) -> the model's loss, for augmentations that follow its gradient."""
        images = batch["image"].astype(jnp.float32)
        change = jax.random.uniform(key, (images.shape[0], 1, 1, 1), minval=-self.most, maxval=self.most)
        return {**batch, "image": jnp.clip(images + change, 0, 255).astype(jnp.uint8)}

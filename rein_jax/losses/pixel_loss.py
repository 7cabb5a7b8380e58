"""Cross-entropy of every pixel, for heads that score pixels (Semantic FPN, linear)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rein_jax.errors import UserError
from rein_jax.layers import resize


class PixelLoss:
    """Mean cross-entropy after resizing the logits to the label (mmseg's CrossEntropyLoss in a decode head).

    A batch without labelled pixels gives zero, with zero gradients.

    Args:
        num_classes: K; a label outside [0, K) is void, whatever `ignore` is, since no logit stands for it.
        ignore: a label that is void.
        average: "all" divides by every pixel, void ones included, as mmseg does (`avg_non_ignore=False`); "valid" by the labelled pixels.
        weight: factor on the loss.

    Example:
        loss, terms = rj.PixelLoss(19)(head(maps), labels)
    """

    def __init__(self, num_classes: int, *, ignore: int = 255, average: str = "all", weight: float = 1.0):
        if average not in ("all", "valid"):
            raise UserError(f"loss.average is {average!r}; it must be 'all' (void pixels count, as mmseg) or 'valid'.")
        self.num_classes, self.ignore, self.average, self.weight = num_classes, ignore, average, weight

    def __call__(self, outputs: dict, label: jax.Array, key=None) -> tuple[jax.Array, dict[str, jax.Array]]:
        """outputs {"logits": [B, h, w, K]}, label int [B, H, W] -> (total, {"loss_ce": total}), float32. `key` is unused."""
        logits = resize.bilinear(outputs["logits"].astype(jnp.float32), label.shape[1:])
        label = label.astype(jnp.int32)
        valid = (label >= 0) & (label < self.num_classes) & (label != self.ignore)
        # A comparison instead of a gather: the backward pass of a gather is a scatter, which is slow everywhere.
        chosen = label[..., None] == jnp.arange(self.num_classes)
        per_pixel = jax.nn.logsumexp(logits, axis=-1) - jnp.sum(jnp.where(chosen, logits, 0.0), axis=-1)
        total = jnp.sum(jnp.where(valid, per_pixel, 0.0))
        count = label.size if self.average == "all" else jnp.maximum(jnp.sum(valid), 1)
        loss = self.weight * total / count
        return loss, {"loss_ce": loss}

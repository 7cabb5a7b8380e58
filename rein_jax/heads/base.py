"""What decode heads share: where their input channels come from, and the loss that fits what they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from rein_jax.errors import UserError
from rein_jax.layers import resize
from rein_jax.layers.component import Component


class Head(Component):
    """A decode head: `head(maps, queries, key=None)` -> outputs, which its loss and `scores` take.

    A subclass gives `__call__`; one whose outputs are not {"logits": [B, h, w, K]} also gives `scores` and `probabilities`, and names its
    loss in `loss_name`.

    Args of a subclass's constructor, as configs call it: (backbone, num_classes, *, adapter, rngs, **options).
    """

    loss_name: ClassVar[str] = "pixel"  # the key of rein_jax.losses.LOSSES that takes what the head gives

    def scores(self, outputs: Mapping[str, jax.Array], size: tuple[int, int]) -> jax.Array:
        """Class scores of every pixel, float32 [B, H, W, K]: the logits resized to size (H, W)."""
        return resize.bilinear(outputs["logits"].astype(jnp.float32), size)

    def probabilities(self, scores: jax.Array) -> jax.Array:
        """Scores -> probabilities that sum to one over the classes: their softmax."""
        return jax.nn.softmax(scores.astype(jnp.float32), axis=-1)


def shapes_of(backbone: nnx.Module | Sequence[int] | None, in_channels: Sequence[int] | None, num_classes: int | None,
              head: str) -> tuple[tuple[int, ...], int]:
    """(channels of the feature maps, finest first, number of classes), from a backbone or from the numbers themselves.

    Raises:
        UserError: one of the two is missing, or the channels are given twice.
    """
    if (backbone is None) == (in_channels is None):
        raise UserError(f"{head} needs a backbone, or in_channels= of its feature maps, finest first (one of the two).")
    if num_classes is None or num_classes < 1:
        raise UserError(f"{head} needs num_classes=, the number of classes, of at least 1.")
    given = in_channels if backbone is None else getattr(backbone, "out_channels", backbone)
    if not isinstance(given, list | tuple) or not all(isinstance(width, int) for width in given):
        raise UserError(f"{head}: {type(given).__name__} declares no out_channels; give a backbone, or in_channels= such as (384,) * 4.")
    return tuple(given), num_classes

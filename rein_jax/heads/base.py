"""What decode heads share: where their input channels come from, and the loss that fits what they give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from flax import nnx

from rein_jax.errors import UserError
from rein_jax.layers.component import Component


class Head(Component):
    """A decode head: `head(maps, queries, key=None)` -> outputs, `head.scores(outputs, size)` -> float32 [B, H, W, K], and
    `head.probabilities(scores)`."""

    loss_name: ClassVar[str] = "pixel"  # the key of rein_jax.losses.LOSSES that takes what the head gives


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

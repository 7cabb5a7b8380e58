"""Which parameters train, as a filter that stock Flax NNX understands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flax import nnx

from rein_jax import trees
from rein_jax.errors import UserError

if TYPE_CHECKING:
    from rein_jax.segmenter import SegmentationModel


@dataclass(frozen=True)
class Trainable:
    """An NNX filter: true for the nnx.Param leaves whose path any pattern matches from its start. See `trainable`."""

    patterns: tuple[str, ...]

    def __call__(self, path: Sequence[Any], value: Any) -> bool:
        kind = getattr(value, "type", type(value))
        if not (isinstance(kind, type) and issubclass(kind, nnx.Variable) and issubclass(kind, nnx.Param)):
            return False
        name = trees.name_of(path)
        return any(re.match(pattern, name) for pattern in self.patterns)


def trainable(*patterns: str) -> Trainable:
    """Which parameters train: an NNX filter for `nnx.Optimizer(wrt=)`, `nnx.DiffState`, `nnx.grad`, `nnx.state` and `nnx.split`.

    The rest has no gradient and no moments. Frozen arrays of an adapter (SoMA's) and statistics of batch norms are never chosen.

    Args:
        *patterns: regular expressions matched from the start of a parameter's path, such as "adapters/0/layers/tokens_a" or
            "backbone/.*bias$"; "adapter" and "head" are enough for a Segmenter's. None given: ("adapter", "head").

    Returns:
        The filter: (path, variable) -> bool.

    Raises:
        UserError: a pattern that is not a valid regular expression. `model.trainable(*patterns)` also refuses one that matches nothing.

    Example:
        trainable = rj.trainable("adapter", "head")
        optimizer = nnx.Optimizer(model, optax.adamw(1e-4), wrt=trainable)
        grads = nnx.grad(loss, argnums=nnx.DiffState(0, trainable))(model, batch)
    """
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise UserError(f"The pattern {pattern!r} is not a valid regular expression: {error}.") from None
    return Trainable(tuple(patterns) or ("adapter", "head"))


def loss(model: SegmentationModel, batch: dict[str, Any], key: Any) -> tuple[Any, dict[str, Any]]:
    """Training loss of a Segmenter on a batch, in the form that `nnx.value_and_grad(..., has_aux=True)` takes.

    Args:
        model: a Segmenter.
        batch: "image" uint8 [B, H, W, 3], "label" integer [B, H, W] (255: not counted), and, where images are padded, "size" int32 [B, 2].
            Other entries that are arrays are left alone.
        key: random key, for dropout and the points that the mask loss samples.

    Returns:
        (total, {term: value}), float32 scalars.
    """
    return model.loss(batch, key)

"""The program that is exported: uint8 images in; labels, probabilities or scores out; windows and resizing inside if wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rein_jax import trees
from rein_jax.adapters.merge import can_merge, merge_adapters
from rein_jax.errors import UserError
from rein_jax.evaluation.grid import coverage, starts
from rein_jax.layers.resize import bilinear
from rein_jax.segmenter import SegmentationModel

OUTPUTS = ("labels", "probabilities", "scores")


@dataclass(frozen=True)
class Plan:
    """What is inside the program.

    Args:
        size: (H, W) of its input; the batch stays free.
        output: "labels" uint8 [B, H, W] (argmax inside), "probabilities" or "scores" float32 [B, H, W, K].
        resize: the model sees images of this (h, w), scores come back at `size`.
        window, stride: sliding windows inside, over what `resize` leaves.
    """

    size: tuple[int, int]
    output: str = "labels"
    resize: tuple[int, int] | None = None
    window: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None

    def check(self, patch: int) -> None:
        """UserError for sizes that do not go together."""
        if self.output not in OUTPUTS:
            raise UserError(f"The output must be one of {', '.join(OUTPUTS)}, not {self.output!r}.")
        seen = self.resize or self.size
        if min(*self.size, *seen) < 8:
            raise UserError(f"Sizes must be at least 8 pixels, not {self.size} and {seen}.")
        if self.window is None:
            return
        if any(w > s for w, s in zip(self.window, seen, strict=True)) or any(w % patch for w in self.window):
            raise UserError(f"The window {_text(self.window)} must fit into the image {_text(seen)} and be a multiple of {patch}.")
        if any(not 0 < s <= w for s, w in zip(self.stride, self.window, strict=True)):
            raise UserError(f"The stride {_text(self.stride)} must be between 1 and the window {_text(self.window)}.")

    def describe(self) -> dict[str, Any]:
        """For the file beside the program."""
        inside = [f"resize to {_text(self.resize)}"] if self.resize else []
        inside += [f"windows {_text(self.window)} step {_text(self.stride)}"] if self.window else []
        kind = {"labels": "uint8 [B, H, W] train ids", "probabilities": "float32 [B, H, W, K]", "scores": "float32 [B, H, W, K]"}
        return {"input": f"uint8 RGB [B, {self.size[0]}, {self.size[1]}, 3]", "output": f"{self.output}: {kind[self.output]}",
                "inside": ["normalisation", *inside, *(["argmax"] if self.output == "labels" else [])]}


def fitting(images: Any, sides: Sequence[int], path: Any) -> np.ndarray:
    """The images, if the program in the file `path` takes them: uint8 [B, *sides] with B of 1 or more; otherwise a UserError."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[1:] != tuple(sides) or not len(images):
        wanted = ", ".join(map(str, sides))
        raise UserError(f"{path} takes images uint8 [B, {wanted}] with one image or more, not {images.dtype} {list(images.shape)}; "
                        "scale to 0..255, put the channels last, and resize or export the program for your size.")
    return images


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def merged(module_def: trees.ModuleDef, params: Mapping[str, Any], merge: bool | None) -> tuple[trees.ModuleDef, trees.FlatParams, bool]:
    """(module_def, leaves, whether adapters were folded into the backbone).

    merge: True (UserError where the method does not merge), False, or None: where it does.
    """
    model = trees.merge(module_def, params)
    if merge is False or (merge is None and not can_merge(model)):
        return module_def, dict(params), False
    leaves = merge_adapters(module_def, params)
    bare = SegmentationModel(model.backbone, model.head, classes=model.classes, preprocessing=model.preprocessing)
    return trees.split(bare, ())[0], leaves, True


def float32(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The weights on the host, floats as float32."""
    return {name: np.asarray(value, np.float32 if jnp.issubdtype(value.dtype, jnp.floating) else None) for name, value in params.items()}


def program(module_def: trees.ModuleDef, params: Mapping[str, Any], plan: Plan, *, unroll: bool = False) -> Callable[[Any], jax.Array]:
    """The function of the plan, its weights float32 constants: uint8 [B, H, W, 3] -> `plan.output`.

    unroll: the blocks of a transformer one after another in place of a loop.
    """
    weights = float32(params)
    return lambda images: answer(module_def, {name: jnp.asarray(value) for name, value in weights.items()}, plan, images, unroll=unroll)


def answer(module_def: trees.ModuleDef, weights: Mapping[str, Any], plan: Plan, images, *, unroll: bool = False) -> jax.Array:
    """What the program of a plan computes from its weights and images uint8 [B, H, W, 3]."""
    model = trees.merge(module_def, weights)
    if unroll and hasattr(model.backbone, "unroll"):
        model.backbone.unroll = True
    x = images.astype(jnp.float32)
    if plan.resize and plan.resize != plan.size:
        x = bilinear(x, plan.resize)
    scores = slide(model, x, plan.window, plan.stride) if plan.window else model.scores(x)
    if scores.shape[1:3] != plan.size:
        scores = bilinear(scores, plan.size)
    if plan.output == "labels":
        return jnp.argmax(scores, axis=-1).astype(jnp.uint8)
    return model.probabilities(scores) if plan.output == "probabilities" else scores


def slide(model: Any, x, window: tuple[int, int], stride: tuple[int, int]):
    """Mean of the scores of all windows over each pixel: float [B, H, W, 3] -> float32 [B, H, W, K]; all windows in one batch."""
    (height, width), (h, w) = x.shape[1:3], window
    places = [(top, left) for top in starts(height, h, stride[0]) for left in starts(width, w, stride[1])]
    crops = jnp.stack([x[:, top : top + h, left : left + w] for top, left in places], axis=1)
    scores = model.scores(crops.reshape(-1, h, w, x.shape[3]))
    scores = scores.reshape(-1, len(places), h, w, scores.shape[-1])
    total = 0.0
    for i, (top, left) in enumerate(places):
        total = total + jnp.pad(scores[:, i], ((0, 0), (top, height - top - h), (left, width - left - w), (0, 0)))
    count = coverage(height, h, stride[0])[:, None] * coverage(width, w, stride[1])[None, :]
    return total / count[:, :, None]

"""The whole model: a backbone with its adapters and a decode head, from uint8 images to losses and class scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from data_pipelines.labels import ClassInfo
from rein_jax import trees
from rein_jax.adapters.base import Adapter
from rein_jax.augment.masks import inside
from rein_jax.errors import UserError

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Preprocessing:
    """What happens to pixel values before the backbone: (x - mean) / std per RGB channel, in units of 0..255."""

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


class Segmenter(nnx.Module):
    """Backbone + adapters + head. Its parameters are the trees backbone/..., adapters/0/..., head/... .

    Calls compute in the dtype of the backbone's parameters; scores and losses are float32.
    """

    def __init__(
        self,
        backbone: nnx.Module,
        adapters: Sequence[Adapter],
        head: nnx.Module,
        criterion: Callable | None,
        classes: ClassInfo,
        preprocessing: Preprocessing = Preprocessing(),
    ):
        self.backbone = backbone
        self.adapters = nnx.List(adapters)
        self.head = head
        self.criterion, self.classes, self.preprocessing = criterion, classes, preprocessing

    def normalise(self, images, size=None):
        """uint8 RGB [B, H, W, 3] -> normalised floats; beyond `size` [B, 2] (height, width) it is zero, the mean colour."""
        dtype = jax.tree.leaves(nnx.state(self.backbone))[0].dtype
        mean, std = (jnp.asarray(v, jnp.float32) for v in (self.preprocessing.mean, self.preprocessing.std))
        x = (images.astype(jnp.float32) - mean) / std
        if size is not None:
            x = jnp.where(inside(size, *x.shape[1:3]), x, 0.0)
        return x.astype(dtype)

    def encode(self, x, key=None):
        """Normalised images (any size) -> (four maps, object queries or None).

        Sides that are no multiple of the patch, or a single one, are padded with the mean colour at the bottom and right; `outputs` at
        that padded size.
        """
        x = pad_to(x, self.backbone.patch)
        maps = self.backbone(x, tuple(self.adapters), key)
        return maps, self.queries()

    def queries(self):
        """Object queries [M, C] summed over the adapters of the backbone's stages; None where adapters give none."""
        given = [q for q in (adapter.queries() for adapter in self.adapters) if q is not None]
        return sum(given[1:], given[0]) if given else None

    def outputs(self, images, size=None, key=None, progress=None):
        """uint8 images -> the head's outputs. progress: share of the training that is over, for heads that change with it."""
        keys = (None, None) if key is None else jax.random.split(key)
        x = self.normalise(images, size)
        if hasattr(self.head, "forward_with_backbone"):  # a head that works within the backbone's blocks
            return self.head.forward_with_backbone(self.backbone, tuple(self.adapters), pad_to(x, self.backbone.patch), keys[0], progress)
        maps, queries = self.encode(x, keys[0])
        with jax.named_scope("head"):
            return self.head(maps, queries, key=keys[1])

    def loss(self, batch: Mapping[str, Any], key) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Training loss of a batch {"image" uint8 [B,H,W,3], "label" [B,H,W], "size" [B,2]} and its terms, float32 scalars.

        An augmented batch may hold float images (0..255) in place of uint8 ones. "progress", where given: see `outputs`.
        """
        model_key, loss_key = jax.random.split(key)
        outputs = self.outputs(batch["image"], batch.get("size"), model_key, batch.get("progress"))
        label = pad_to(batch["label"][..., None].astype(jnp.int32), self.backbone.patch, value=255)[..., 0]
        with jax.named_scope("loss"):
            return self.criterion(outputs, label, loss_key)

    def scores(self, images, size=None) -> jax.Array:
        """uint8 images [B, h, w, 3] -> class scores, float32 [B, h, w, K]; the larger the likelier.

        Beyond `size` [B, 2] (height, width; traced) images hold padding, which the model sees as the mean colour.
        """
        h, w = images.shape[1:3]
        sides = tuple(padded(side, self.backbone.patch) for side in (h, w))
        return self.head.scores(self.outputs(images, size), sides)[:, :h, :w]

    def probabilities(self, scores) -> jax.Array:
        """Scores -> probabilities that sum to one over the classes."""
        return self.head.probabilities(scores)

    def features(self, images) -> tuple[jax.Array, ...]:
        """uint8 RGB images [B, H, W, 3] -> the maps at strides 4, 8, 16, 32 that the head sees, float [B, h, w, C] each."""
        module_def, _, params = trees.split(self, ())
        return _features(module_def, params, jnp.asarray(check_images(images)))

    def predict(self, images, *, scores: bool = False):
        """uint8 RGB images [B, H, W, 3], or a list of images of any sizes -> train ids, uint8 [B, H, W] (or a list of [H, W]).

        `scores=True` gives (train ids, scores float32 [B, H, W, K]). Images are seen whole; for windows use `rein_jax.evaluate` or
        `rein predict`. Compiles once for each image size.
        """
        if isinstance(images, list | tuple):
            each = [self.predict(check_images(image, 3)[None], scores=scores) for image in images]
            return ([ids[0] for ids, _ in each], [s[0] for _, s in each]) if scores else [ids[0] for ids in each]
        module_def, _, params = trees.split(self, ())
        ids, found = _predict(module_def, params, jnp.asarray(check_images(images)))
        return (ids, found) if scores else ids


@partial(jax.jit, static_argnums=0)
def _features(module_def, params, images):
    model = trees.merge(module_def, params)
    return model.encode(model.normalise(images))[0]


@partial(jax.jit, static_argnums=0)
def _predict(module_def, params, images):
    scores = trees.merge(module_def, params).scores(images)
    return scores.argmax(-1).astype(jnp.uint8), scores


def check_images(images, axes: int = 4) -> np.ndarray:
    """The images, if they are uint8 RGB [B, H, W, 3] (axes 3: one image [H, W, 3]); otherwise a UserError."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != axes or images.shape[-1] != 3:
        wanted = "[B, H, W, 3]" if axes == 4 else "[H, W, 3] each in a list"
        raise UserError(f"Images must be uint8 RGB of shape {wanted}, not {images.dtype} {images.shape}; "
                        "scale to 0..255 and put the channels last.")  # fmt: skip
    return images


def padded(side: int, patch: int) -> int:
    """The side in whole patches, two at least: a single one has no map at stride 32."""
    return max(2, -(-side // patch)) * patch


def pad_to(x, patch: int, value=0):
    """[B, H, W, C] padded at the bottom and right to whole patches."""
    h, w = x.shape[1:3]
    down, right = padded(h, patch) - h, padded(w, patch) - w
    return jnp.pad(x, ((0, 0), (0, down), (0, right), (0, 0)), constant_values=value) if down or right else x

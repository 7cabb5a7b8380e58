"""The whole model: a backbone with its adapters and a decode head, from uint8 images to losses and class scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from data_pipelines.labels import CITYSCAPES, ClassInfo
from rein_jax import registry
from rein_jax.adapters.base import AnyAdapter, queries_of, stages_of
from rein_jax.augment.masks import inside
from rein_jax.backbones.base import Backbone
from rein_jax.heads.base import Head
from rein_jax.losses import LOSSES

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Preprocessing:
    """What happens to pixel values before the backbone: (x - mean) / std.

    Args:
        mean, std: of each RGB channel, in units of 0..255.
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


IMAGENET = Preprocessing()


class SegmentationModel(nnx.Module):
    """Backbone + adapters + head, as it is trained. Its parameters are the trees backbone/..., adapters/0/..., head/... .

    Calls compute in the dtype of the backbone's parameters; scores and losses are float32.

    Args:
        backbone: gives the feature maps (`rein_jax.backbones`).
        head: decode head (`rein_jax.heads`).
        adapter: of the backbone, or one for each of its stages, or None.
        classes: names and colours of the classes.
        loss: (outputs, label, key) -> (total, terms); None: the one that fits the head, with its published settings.
        preprocessing: of pixel values.
    """

    def __init__(self, backbone: Backbone, head: Head, *, adapter: AnyAdapter = None, classes: ClassInfo = CITYSCAPES,
                 loss: Callable | None = None, preprocessing: Preprocessing = IMAGENET):
        self.backbone = backbone
        self.adapters = nnx.List(stages_of(adapter))
        self.head = head
        self.classes, self.preprocessing = classes, preprocessing
        self.criterion = loss or registry.load(LOSSES, getattr(head, "loss_name", "pixel"), "loss")(len(classes))

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
        return maps, queries_of(self.adapters)

    def outputs(self, images, size=None, key=None, progress=None):
        """uint8 images -> the head's outputs. progress: share of the training that is over, for heads that change with it."""
        keys = (None, None) if key is None else jax.random.split(key)
        x = self.normalise(images, size)
        if hasattr(self.head, "forward_with_backbone"):  # a head that works within the backbone's blocks
            return self.head.forward_with_backbone(self.backbone, tuple(self.adapters), pad_to(x, self.backbone.patch), keys[0], progress)
        maps, queries = self.encode(x, keys[0])
        with jax.named_scope("head"):
            return self.head(maps, queries, key=keys[1])

    def loss(self, batch: Mapping[str, Any], key, draws: Any = None) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Training loss of a batch {"image" uint8 [B,H,W,3], "label" [B,H,W], "size" [B,2]} and its terms, float32 scalars.

        An augmented batch may hold float images (0..255) in place of uint8 ones. "progress", where given: see `outputs`. draws: the random
        points of the mask loss (`losses.Draws`) in place of those that `key` draws, for comparisons with another code's.
        """
        model_key, loss_key = jax.random.split(key)
        outputs = self.outputs(batch["image"], batch.get("size"), model_key, batch.get("progress"))
        label = pad_to(batch["label"][..., None].astype(jnp.int32), self.backbone.patch, value=255)[..., 0]
        with jax.named_scope("loss"):
            return self.criterion(outputs, label, loss_key, **({} if draws is None else {"draws": draws}))

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


def padded(side: int, patch: int) -> int:
    """The side in whole patches, two at least: a single one has no map at stride 32."""
    return max(2, -(-side // patch)) * patch


def pad_to(x, patch: int, value=0):
    """[B, H, W, C] padded at the bottom and right to whole patches."""
    h, w = x.shape[1:3]
    down, right = padded(h, patch) - h, padded(w, patch) - w
    return jnp.pad(x, ((0, 0), (0, down), (0, right), (0, 0)), constant_values=value) if down or right else x

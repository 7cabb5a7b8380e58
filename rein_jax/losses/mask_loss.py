"""The set loss of Mask2Former: match queries to classes, then class, mask and dice losses on uncertain points.

The same function as mmdet's Mask2FormerHead loss as Rein uses it, on every prediction of the decoder (deep supervision).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rein_jax.errors import UserError
from rein_jax.kernels.assignment import assign
from rein_jax.kernels.loops import map_bounded, map_items
from rein_jax.kernels.reading import read
from rein_jax.kernels.sampling import corners, sample_vectors, take
from rein_jax.kernels.selection import bottom_k
from rein_jax.losses.match_costs import Costs, match_costs

_EPS = float(jnp.finfo(jnp.float32).eps)


class Draws(NamedTuple):
    """The random points of one step, (x, y) in [0, 1]; P predictions, B images, n points.

    The masks of an image stand in the order of the queries they are matched to, the unused rest behind.

    Args:
        match: where predictions are matched, [P, B, n, 2].
        candidates: of each mask, [P, B, K, oversample * n, 2]; these are the most numerous, and keys [P, B] may stand for them: those of
            the k-th mask are then drawn when they are looked at, from the key and k.
        fresh: of each mask, [P, B, K, n - int(importance * n), 2].
    """

    match: jax.Array
    candidates: jax.Array
    fresh: jax.Array


class Slots(NamedTuple):
    """The matched pairs of one prediction of one image, padded to K and ordered by query."""

    query: jax.Array  # int32 [K]
    label: jax.Array  # int32 [K]
    valid: jax.Array  # bool [K]


class _Sums(NamedTuple):
    """What one prediction of one image adds to the losses and their divisors."""

    cls: jax.Array
    cls_weight: jax.Array
    mask: jax.Array
    dice: jax.Array
    count: jax.Array


def _over_images(function, cls, masks, features, label, more, most):
    """function(cls, masks, features, label, more, most) of one image over arrays of all: images stand behind the predictions in cls,
    masks, more and the result, first in the others."""
    moved = lambda some, start, end: jax.tree.map(lambda a: jnp.moveaxis(a, start, end), some)
    return moved(map_bounded(function, (*moved((cls, masks), 1, 0), features, label, moved(more, 1, 0)), most), 0, 1)


def _uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Points [*shape, 2] in [0, 1], the middles of a grid of 2^16 x 2^16 cells: both coordinates from one random word."""
    word = jax.random.bits(key, shape, jnp.uint32)
    return (jnp.stack([word >> 16, word & 0xFFFF], axis=-1).astype(jnp.float32) + 0.5) / 2**16


def _parts(outputs: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """(cls, masks [P, B, Q, ...], features or None) of a head's outputs."""
    cls = outputs["cls"].astype(jnp.float32)
    if "features" in outputs:
        return cls, outputs["embedding"], outputs["features"]
    return cls, outputs["mask"].astype(jnp.float32), None


def _product(terms: str, *factors: jax.Array) -> jax.Array:
    return jnp.einsum(terms, *factors, preferred_element_type=jnp.float32)


def _of_queries(masks: jax.Array, features: jax.Array | None, query: jax.Array) -> jax.Array:
    """The masks [..., K, h, w] of the queries [..., K], from all [..., Q, h, w], or from embeddings [..., Q, C] and features [h, w, C]."""
    picked = jnp.take_along_axis(masks, query.reshape(*query.shape, *(1,) * (masks.ndim - query.ndim)), axis=query.ndim - 1)
    return picked if features is None else _product("...kc,hwc->...khw", picked, features)


class MaskLoss:
    """Loss of a Mask2Former head.

    Args:
        num_classes: K.
        points: n points a mask is judged at.
        oversample, importance: oversample * n candidates are drawn, the int(importance * n) least certain kept, the rest drawn afresh.
        weights: of class, mask and dice, in matching and loss.
        no_object: class weight of unmatched queries.
        ignore_void: False is the original's treatment (void pixels count as "not this class" in masks and matching); True leaves out every
            point that touches a void pixel.
        ignore: a label that is void; every label outside [0, K) is too.
        shards: data-parallel shards whose averages are averaged, as DDP with one process a shard does: the class loss divides by its own
            shard's class weights, masks by the mean number of masks.
        by_prediction: one prediction after the other, for memory.

    Example:
        loss, terms = rj.MaskLoss(19)(head(maps), labels, key=key)
    """

    def __init__(self, num_classes: int, *, points: int = 12_544, oversample: float = 3.0, importance: float = 0.75,
                 weights: tuple[float, float, float] = (2.0, 5.0, 5.0), no_object: float = 0.1, ignore_void: bool = False,
                 ignore: int = 255, shards: int = 1, by_prediction: bool = False):
        if points < 1 or oversample < 1 or not 0 <= importance <= 1:
            raise UserError(f"loss.points ({points}) and loss.oversample ({oversample}) must be at least 1 and "
                            f"loss.importance ({importance}) between 0 and 1.")
        self.num_classes, self.points, self.weights = num_classes, points, tuple(weights)
        self.candidates, self.uncertain = int(points * oversample), int(importance * points)
        self.no_object, self.ignore_void, self.ignore, self.shards = no_object, ignore_void, ignore, shards
        self.by_prediction = by_prediction

    def __call__(self, outputs: dict[str, jax.Array], label: jax.Array, key: jax.Array | None = None, *,
                 draws: Draws | None = None) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss of a batch.

        Args:
            outputs: of the head, {"cls": [P, B, Q, K + 1], "mask": [P, B, Q, h, w]}. Where the masks' factors "embedding" [P, B, Q, C] and
                "features" [B, h, w, C] are given, they stand in for "mask": only the matched masks are then made with a gradient.
            label: integer [B, H, W].
            key: draws the points, unless they are given by `draws`.

        Returns:
            (total, terms), float32: loss_cls, loss_mask, loss_dice of the last prediction and d0.loss_cls ... of the earlier ones, all
            weighted; the total is their sum.
        """
        cls, masks, features = _parts(outputs)
        predictions, batch = cls.shape[:2]
        if batch % self.shards:
            raise UserError(f"The batch of {batch} images cannot be divided among {self.shards} shards; change train.batch.")
        draws = self.draw(key, predictions, batch) if draws is None else Draws(*draws)
        label = self._clean(label)

        most = jnp.sum(self._present(label), axis=-1)
        # No gradient runs through the choice.
        selected = _over_images(self._select, *jax.lax.stop_gradient((cls, masks, features)), label, draws, most)

        def sums_of(cls, masks, selected):
            return _over_images(self._point_losses, cls, masks, features, label, selected, most)

        if self.by_prediction:
            one = jax.tree.map(lambda a: a[:, None], (cls, masks, selected))  # [P, 1, B, ...]
            sums = jax.tree.map(lambda a: a[:, 0], jax.lax.map(lambda some: jax.checkpoint(sums_of)(*some), one))
        else:
            sums = sums_of(cls, masks, selected)
        return self._terms(sums)

    def draw(self, key: jax.Array, predictions: int, batch: int) -> Draws:
        """Uniform random points for one step."""
        if key is None:
            raise ValueError("the mask loss draws random points: give a key, or the draws")
        lead = (predictions, batch)
        match, candidates, fresh = jax.random.split(key, 3)
        return Draws(_uniform(match, (*lead, self.points)), jax.random.split(candidates, lead),
                     _uniform(fresh, (*lead, self.num_classes, self.points - self.uncertain)))

    def match(self, outputs: dict[str, jax.Array], label: jax.Array, draws: Draws) -> tuple[Costs, Slots]:
        """The costs and matched pairs behind the loss, for looking at: leading axes [P, B]."""
        cls, masks, features = _parts(outputs)
        one = jax.vmap(jax.vmap(self._match), in_axes=(0, 0, None, None, 0))
        return one(cls, masks, features, self._clean(label), draws.match)

    def _clean(self, label: jax.Array) -> jax.Array:
        """int32 with -1 for void."""
        label = label.astype(jnp.int32)
        return jnp.where((label >= 0) & (label < self.num_classes) & (label != self.ignore), label, -1)

    def _present(self, label: jax.Array) -> jax.Array:
        """Which classes a label [..., H, W] holds: bool [..., K]."""
        return jnp.any(label[..., None] == jnp.arange(self.num_classes), axis=(-3, -2))

    @jax.named_scope("matching")
    def _match(self, cls: jax.Array, masks: jax.Array, features: jax.Array | None, label: jax.Array,
               points: jax.Array) -> tuple[Costs, Slots]:
        """One prediction of one image: cls [Q, K + 1], masks [Q, h, w] or [Q, C] with features [h, w, C], label [H, W], points [n, 2]."""
        targets, valid = self._read(label, points, jnp.arange(self.num_classes)[None])
        logits = sample_vectors(jnp.moveaxis(masks, 0, -1) if features is None else _product("hwc,qc->hwq", features, masks), points)
        costs = match_costs(cls, logits, targets, valid, self.weights)
        present, queries = self._present(label), cls.shape[0]
        query = assign(costs.total(), present)
        matched = present & (query < queries)
        order = jnp.argsort(jnp.where(matched, query, query + max(queries, self.num_classes)))
        return costs, Slots(jnp.minimum(query, queries - 1)[order], order.astype(jnp.int32), matched[order])

    def _read(self, label: jax.Array, points: jax.Array, names: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Masks of the named classes at points [..., 2] -> (what they hold in [0, 1], weight of each point).

        `names` broadcasts against the points [...]: [..., n] of them, or with an axis more. Reading the label map and comparing
        equals sampling one mask a class, without making the masks.
        """
        height, width = label.shape
        targets, void = 0.0, False
        for index, weight in corners(points, height, width):
            value = take(label.reshape(-1), index)
            void |= (value < 0) & (weight > 0)
            value, weight = (a.reshape(*a.shape, *(1,) * (names.ndim - a.ndim)) for a in (value, weight))
            targets += jnp.where(value == names, weight, 0.0)
        return targets, jnp.where(self.ignore_void & void, 0.0, 1.0)

    @jax.named_scope("points")
    def _select(self, cls: jax.Array, masks: jax.Array, features: jax.Array | None, label: jax.Array, draws: Draws,
                most: jax.Array) -> tuple[Slots, jax.Array]:
        """Pairs, and points [P, K, n, 2], of the predictions of one image; `most`: how many slots are looked at, the rest has zeros."""
        lazy = jnp.issubdtype(draws.candidates.dtype, jax.dtypes.prng_key)

        def one(cls, masks, draws):
            _, slots = self._match(cls, masks, features, label, draws.match)
            matched = _of_queries(masks, features, slots.query)

            def select(k, points):
                candidates = _uniform(jax.random.fold_in(draws.candidates, k), (self.candidates,)) if lazy else draws.candidates[k]
                return points.at[k].set(self.select_points(matched[k], label, candidates, draws.fresh[k]))

            return slots, jax.lax.fori_loop(0, most, select, jnp.zeros((self.num_classes, self.points, 2), jnp.float32))

        return map_items(one, (cls, masks, draws), sequential=self.by_prediction)

    def select_points(self, mask: jax.Array, label: jax.Array, candidates: jax.Array, fresh: jax.Array) -> jax.Array:
        """The n points of one mask [h, w]: the candidates whose logits are nearest to zero, and the fresh ones."""
        certainty = jnp.abs(read(mask, candidates))
        if self.ignore_void:
            certainty = jnp.where(self._read(label, candidates, jnp.zeros(1, jnp.int32))[1] > 0, certainty, math.inf)
        return jnp.concatenate([candidates[bottom_k(certainty, self.uncertain)], fresh])

    def _point_losses(self, cls: jax.Array, masks: jax.Array, features: jax.Array | None, label: jax.Array,
                      selected: tuple[Slots, jax.Array], most: jax.Array) -> _Sums:
        """The sums [P] of the predictions of one image: cls [P, Q, K + 1], masks [P, Q, ...], label [H, W], points [P, K, n, 2].

        All masks of all predictions are read at once: a map over them would become an index of many parts to each gather.
        """
        slots, points = selected
        matched = (jnp.arange(cls.shape[1])[:, None] == slots.query[:, None]) & slots.valid[:, None]  # [P, Q, K]
        target = jnp.where(matched.any(-1), jnp.sum(matched * slots.label[:, None], axis=-1), self.num_classes)
        weight = jnp.where(target == self.num_classes, self.no_object, 1.0)
        one_hot = target[..., None] == jnp.arange(self.num_classes + 1)
        entropy = jax.nn.logsumexp(cls, axis=-1) - jnp.sum(jnp.where(one_hot, cls, 0.0), axis=-1)
        # The backward pass finds neighbours and exponentials again: kept, they would be more than all else of a small crop.
        # A function of its own: JAX keeps what it traced of a function, and `read` differs between platforms.
        logits = jax.checkpoint(lambda *given: read(*given))(_of_queries(masks, features, slots.query), points)
        mask_sum, dice_sum = jax.checkpoint(self._mask_and_dice)(logits, *self._read(label, points, slots.label[..., None]))
        of_slots = lambda values: jnp.sum(jnp.where(slots.valid, values, 0.0), axis=-1)
        return _Sums(jnp.sum(weight * entropy, axis=-1), weight.sum(-1), of_slots(mask_sum), of_slots(dice_sum),
                     jnp.maximum(slots.valid.sum(-1), 1))

    @staticmethod
    def _mask_and_dice(logits: jax.Array, target: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(mean cross-entropy, dice) over the last axis, the points."""
        entropy = jnp.maximum(logits, 0) - logits * target + jnp.log1p(jnp.exp(-jnp.abs(logits)))
        count = jnp.maximum(valid.sum(-1), 1)  # n, unless void points are left out
        probability, target = jax.nn.sigmoid(logits) * valid, target * valid
        dice = 1 - (2 * jnp.sum(probability * target, axis=-1) + 1) / (probability.sum(-1) + target.sum(-1) + 1)
        return jnp.sum(entropy * valid, axis=-1) / count, dice

    def _terms(self, sums: _Sums) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Sums [P, B] -> (total, terms)."""
        predictions = sums.cls.shape[0]
        by_shard = [s.reshape(predictions, self.shards, -1).sum(-1) for s in sums]
        cls, cls_weight, mask, dice, count = by_shard
        masks = jnp.maximum(count.mean(-1), 1.0)
        losses = {
            "loss_cls": self.weights[0] * (cls / (cls_weight + _EPS)).mean(-1),
            "loss_mask": self.weights[1] * mask.mean(-1) * self.points / (masks * self.points + _EPS),
            "loss_dice": self.weights[2] * dice.mean(-1) / (masks + _EPS),
        }
        terms = {}
        for p in range(predictions):
            prefix = "" if p == predictions - 1 else f"d{p}."
            terms |= {prefix + name: values[p] for name, values in losses.items()}
        return sum(value.sum() for value in losses.values()), terms

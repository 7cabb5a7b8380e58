"""What it costs to give a class to a query, by which the two are matched (mmdet's HungarianAssigner)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

LIMIT = 1e6  # costs are clipped here, far above any cost that occurs, so that the search ends whatever the network says


class Costs(NamedTuple):
    """The weighted parts of the cost of giving class k to query q, [Q, K] each."""

    cls: jax.Array
    mask: jax.Array
    dice: jax.Array

    def total(self) -> jax.Array:
        """Their sum, finite for any input."""
        return jnp.clip(jnp.nan_to_num(self.cls + self.mask + self.dice, nan=LIMIT, posinf=LIMIT, neginf=-LIMIT), -LIMIT, LIMIT)


def match_costs(cls: jax.Array, logits: jax.Array, targets: jax.Array, valid: jax.Array,
                weights: tuple[float, float, float] = (2.0, 5.0, 5.0)) -> Costs:
    """Costs of one prediction of one image, float32.

    cls [Q, K + 1] class logits; logits [n, Q] mask logits and targets [n, K] masks of the classes at n points; valid [n] the
    weight of each point (0 leaves it out). Class: minus the probability. Mask: mean binary cross-entropy. Dice:
    1 - (2 sum pt + 1) / (sum p + sum t + 1).
    """
    # Saturated far outside what float32 training reaches: products with zero targets stay finite.
    logits = jnp.clip(jnp.nan_to_num(logits.astype(jnp.float32), nan=0.0), -LIMIT, LIMIT)
    valid = valid[:, None]

    def dot(a, b):
        return jnp.einsum("nq,nk->qk", a, b, precision=jax.lax.Precision.HIGHEST)

    small = jnp.exp(-jnp.abs(logits))  # shared by both entropies and the probability, which are most of the arithmetic
    shared = jnp.log1p(small)
    positive, negative = (shared + jnp.maximum(-logits, 0)) * valid, (shared + jnp.maximum(logits, 0)) * valid
    entropy = (dot(positive, targets) + dot(negative, 1 - targets)) / jnp.maximum(valid.sum(), 1)
    probability, masked = jnp.where(logits >= 0, 1, small) / (1 + small) * valid, targets * valid
    dice = 1 - (2 * dot(probability, targets) + 1) / (probability.sum(0)[:, None] + masked.sum(0) + 1)
    of_class = jax.nn.softmax(cls.astype(jnp.float32), axis=-1)[:, : targets.shape[-1]]
    return Costs(-weights[0] * of_class, weights[1] * entropy, weights[2] * dice)

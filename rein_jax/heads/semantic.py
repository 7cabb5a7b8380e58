"""From queries, each with class logits and a mask, to scores of pixels."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rein_jax.layers import resize


def semantic_scores(classes: jax.Array, masks: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Class logits [B, Q, K + 1] and mask logits [B, Q, h, w] -> float32 [B, H, W, K] at size (H, W): sums over queries, no probabilities.

    Masks are resized before the sigmoid; the softmax runs over K + 1 classes and "no object", the last, is then dropped.
    """
    classes = jax.nn.softmax(classes.astype(jnp.float32), axis=-1)[..., :-1]
    images, queries, _ = classes.shape

    def add(total, some):  # all queries' masks at full size are large: as many at a time as make those of one image
        share, mask = some
        mask = jax.nn.sigmoid(resize.bilinear(mask.astype(jnp.float32), size, axes=(2, 3)))
        return total + jnp.einsum("bqk,bqhw->bhwk", share, mask), None

    # Images stay a batch axis, so that the work splits among devices. Of a program for any number of images nothing is known.
    most = max(1, queries // images) if isinstance(images, int) else 16
    part = next(n for n in range(most, 0, -1) if queries % n == 0)
    parts = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(images, -1, part, *x.shape[2:]), 1, 0), (classes, masks))
    total = jnp.zeros((images, *size, classes.shape[-1]), jnp.float32)
    return jax.lax.scan(add, total, parts)[0]


def shares(scores: jax.Array) -> jax.Array:
    """Scores divided by their sum over the classes (equal shares where no query claims a pixel)."""
    scores = scores.astype(jnp.float32) + 1e-12
    return scores / scores.sum(-1, keepdims=True)

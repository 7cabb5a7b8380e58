"""Attention whose probabilities are not kept for the backward pass on a TPU, which finds them again from q, k and v.

Kept, float32 and bfloat16 ones of every block of a ViT are gigabytes that go to memory and come back; found again, those of a block, or of
one head where they are many, stay in the chip's fast memory. What the TPU compiler estimates for either is in docs/speed.md.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

WHOLE = 2**25  # scores of all heads of an image that are found at once; more do not fit a v5e's fast memory of 128 MiB


def recomputed_attention(q: jax.Array, k: jax.Array, v: jax.Array, scale: float | None, allowed: jax.Array | None = None) -> jax.Array:
    """The form "recomputed" of `attention.attend`."""
    found = jax.checkpoint(partial(_attend, scale=q.shape[-1] ** -0.5 if scale is None else scale))
    if q.shape[1] * k.shape[1] * q.shape[2] <= WHOLE:
        return found(q, k, v, allowed)
    one = lambda head: found(*(x[:, :, None] for x in head), allowed)[:, :, 0]
    return jnp.moveaxis(jax.lax.map(one, tuple(jnp.moveaxis(x, 2, 0) for x in (q, k, v))), 0, 2)


def _attend(q: jax.Array, k: jax.Array, v: jax.Array, allowed: jax.Array | None, *, scale: float) -> jax.Array:
    """Attention written so that XLA for TPUs needs no pass over the scores beside its products, in the layout that it chooses for them:
    keys before queries.

    A column of ones makes the product with v sum the exponentials, too, and the gradient of their sum a part of the product that finds that
    of the exponentials: half of the matrix unit's columns are empty at 64 channels. Summed by themselves they are found once more for it.
    """
    scores = jnp.einsum("bmhc,bnhc->bhmn", k, q, preferred_element_type=jnp.float32) * scale
    if allowed is not None:
        scores = jnp.where(allowed.swapaxes(1, 2)[:, None], scores, jnp.finfo(jnp.float32).min)
    largest = jax.lax.stop_gradient(scores.max(axis=2, keepdims=True))
    summed = jnp.concatenate([v, jnp.ones_like(v[..., :1])], axis=-1)
    result = jnp.einsum("bmhc,bhmn->bhcn", summed, jnp.exp(scores - largest).astype(v.dtype), preferred_element_type=jnp.float32)
    return (result[:, :, :-1] / result[:, :, -1:]).astype(v.dtype).transpose(0, 3, 1, 2)

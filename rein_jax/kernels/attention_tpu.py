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
    if q.shape[1] * k.shape[1] * q.shape[2] <= WHOLE:
        whole = partial(jax.nn.dot_product_attention, scale=scale)
        return jax.checkpoint(whole)(q, k, v, mask=None if allowed is None else allowed[:, None])
    one = jax.checkpoint(partial(_head, scale=q.shape[-1] ** -0.5 if scale is None else scale))
    heads = jax.lax.map(lambda head: one(*head, allowed), tuple(jnp.moveaxis(x, 2, 0) for x in (q, k, v)))
    return jnp.moveaxis(heads, 0, 2)


def _head(q: jax.Array, k: jax.Array, v: jax.Array, allowed: jax.Array | None, *, scale: float) -> jax.Array:
    """One head of all images, [B, N, hd] each. A column of ones makes the product with v sum the exponentials, too, and the gradient of
    their sum a part of the product that finds that of the exponentials: half of the matrix unit's columns are empty at 64 channels."""
    scores = jnp.einsum("bnc,bmc->bnm", q, k, preferred_element_type=jnp.float32) * scale
    if allowed is not None:
        scores = jnp.where(allowed, scores, jnp.finfo(jnp.float32).min)
    largest = jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True))
    summed = jnp.concatenate([v, jnp.ones_like(v[..., :1])], axis=-1)
    result = jnp.einsum("bnm,bmc->bnc", jnp.exp(scores - largest).astype(v.dtype), summed, preferred_element_type=jnp.float32)
    return (result[..., :-1] / result[..., -1:]).astype(v.dtype)

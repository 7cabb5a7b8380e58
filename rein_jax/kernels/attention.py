"""Scaled dot-product attention with a float32 softmax."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rein_jax.kernels.attention_cpu import blocked_attention, worth
from rein_jax.kernels.attention_tpu import recomputed_attention
from rein_jax.kernels.platforms import target


def attend(q: jax.Array, k: jax.Array, v: jax.Array, *, scale: float | None = None, allowed: jax.Array | None = None) -> jax.Array:
    """Softmax attention of every head.

    Args:
        q: [B, N, heads, hd].
        k, v: [B, M, heads, hd].
        scale: factor of the scores, hd^-0.5 unless given.
        allowed: bool [B, N, M], what each query may look at, at least one thing; None allows everything.

    Returns:
        [B, N, heads, hd].
    """
    return FORMS[_form(q, k, allowed)](q, k, v, scale, allowed)


def _form(q: jax.Array, k: jax.Array, allowed: jax.Array | None) -> str:
    if target() == "cpu" and q.dtype == jnp.float32:
        exported = not isinstance(q.shape[0], int)  # with a free batch size, to run anywhere: no loops that suit a CPU's cache
        return "blocked" if not exported and worth(q.shape[1], k.shape[1], q.shape[2]) else "reference"
    if target() == "gpu" and q.dtype in (jnp.bfloat16, jnp.float16) and allowed is None:
        takes = q.shape[-1] % 8 == 0 and q.shape[-1] <= 128  # the widest heads that every cuDNN flash kernel takes
        return "cudnn" if takes else "reference"
    return "recomputed" if target() == "tpu" else "reference"


def _reference(q, k, v, scale, allowed):
    return jax.nn.dot_product_attention(q, k, v, scale=scale, mask=None if allowed is None else allowed[:, None])


def _cudnn(q, k, v, scale, allowed=None, implementation: str = "cudnn"):
    """cuDNN's flash kernels, which take no mask of their own (`allowed` is None).

    JAX refuses their gradients at odd lengths, which therefore get one row more: a query whose result is dropped and a key that no query
    looks at. implementation: as JAX names it, for tests.
    """
    assert allowed is None
    length, keys = q.shape[1], k.shape[1]
    q, k, v = (jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0))) for x in (q, k, v))
    kept = None if k.shape[1] == keys else jnp.full(len(k), keys, jnp.int32)
    y = jax.nn.dot_product_attention(q, k, v, scale=scale, key_value_seq_lengths=kept, implementation=implementation)
    return y[:, :length]


FORMS = {"reference": _reference, "blocked": blocked_attention, "cudnn": _cudnn, "recomputed": recomputed_attention}

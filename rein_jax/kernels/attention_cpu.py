"""Attention whose scores stay in a CPU's cache: some rows of them at a time, computed again by the backward pass.

As in FlashAttention (Dao et al., 2022) the gradient of the softmax needs one number for each query beside its normaliser, the product of
the result with its gradient; so no [N, M] array is ever kept. Written out, such arrays cost a CPU more time than the matrix products.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

SCORES = 2**19  # scores at once: 2 MiB
WORTH = 2**18  # scores of all heads of an image below which they are written out


def worth(queries: int, keys: int, heads: int) -> bool:
    """Whether blocks pay for scores [heads, queries, keys]."""
    return heads * queries * keys >= WORTH


def blocked_attention(q: jax.Array, k: jax.Array, v: jax.Array, scale: float | None, allowed: jax.Array | None = None) -> jax.Array:
    """The form "blocked" of `attention.attend`, for float32."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    q, k, v = (x.swapaxes(1, 2) for x in (q * scale, k, v))
    if allowed is None:
        allowed = jnp.ones((q.shape[0], 1, 1), bool)
    return jax.vmap(_attend)(q, k, v, allowed).swapaxes(1, 2)  # images stay a batch axis, so that they split among devices


@jax.custom_vjp
def _attend(q: jax.Array, k: jax.Array, v: jax.Array, allowed: jax.Array) -> jax.Array:
    return _forward(q, k, v, allowed)[0]


def _forward(q, k, v, allowed):
    """One image: [heads, N, hd] each, allowed [N, M] or [1, 1] for everything; also what the backward pass needs."""
    width, masked = v.shape[-1], allowed.size > 1

    def head(part):
        q, k, v = part
        summed = jnp.concatenate([v, jnp.ones_like(v[:, :1])], axis=-1)  # the product sums the weights, too

        def block(part):
            q, allowed = part
            scores = q @ k.T
            scores = jnp.where(allowed, scores, -jnp.inf) if masked else scores
            most = scores.max(axis=-1)
            result = jnp.exp(scores - most[:, None]) @ summed
            return result[:, :width] / result[:, width:], most + jnp.log(result[:, width])

        return jax.lax.map(block, (q, may))

    may = _allowed_blocks(allowed, q, k)
    result, level = jax.lax.map(head, (_blocks(q, k), k, v))
    result, level = (_whole(x, q.shape[1]) for x in (result, level))
    return result, (q, k, v, allowed, result, level)


def _backward(saved, gradient):
    q, k, v, allowed, result, level = saved
    own, masked = jnp.sum(result * gradient, axis=-1), allowed.size > 1

    def head(part):
        q, gradient, level, own, k, v = part

        def block(total, part):  # scores as [M, rows]: so no product has to turn them around
            q, gradient, level, own, allowed = part
            weights = jnp.exp(k @ q.T - level)
            weights = jnp.where(allowed.T, weights, 0.0) if masked else weights
            of_scores = weights * (v @ gradient.T - own)
            of_k, of_v = total
            return (of_k + of_scores @ q, of_v + weights @ gradient), (k.T @ of_scores).T

        (of_k, of_v), of_q = jax.lax.scan(block, (jnp.zeros_like(k), jnp.zeros_like(v)), (q, gradient, level, own, may))
        return of_q, of_k, of_v

    may = _allowed_blocks(allowed, q, k)
    of_q, of_k, of_v = jax.lax.map(head, (*(_blocks(x, k) for x in (q, gradient, level, own)), k, v))
    return _whole(of_q, q.shape[1]), of_k, of_v, None


_attend.defvjp(_forward, _backward)


def _count(q: jax.Array, k: jax.Array) -> int:
    """Blocks: as few as the cache lets them be."""
    return math.ceil(q.shape[1] * k.shape[1] / SCORES)


def _blocks(x: jax.Array, k: jax.Array, filling=0) -> jax.Array:
    """[heads, N, ...] -> [heads, blocks, rows, ...], the last block filled up.

    Rows of zeros give finite scores; their gradient is zero, so they add nothing.
    """
    count = _count(x, k)
    rows = math.ceil(x.shape[1] / count)
    x = jnp.pad(x, ((0, 0), (0, count * rows - x.shape[1]), *((0, 0),) * (x.ndim - 2)), constant_values=filling)
    return x.reshape(x.shape[0], count, rows, *x.shape[2:])


def _allowed_blocks(allowed: jax.Array, q: jax.Array, k: jax.Array) -> jax.Array:
    """Bool [blocks, rows, M], or [blocks, 1, 1] where everything is allowed; rows that fill the last block up may look anywhere."""
    return _blocks(allowed[None], k, filling=True)[0] if allowed.size > 1 else jnp.ones((_count(q, k), 1, 1), bool)


def _whole(x: jax.Array, n: int) -> jax.Array:
    """[heads, blocks, rows, ...] -> [heads, n, ...]."""
    return x.reshape(x.shape[0], -1, *x.shape[3:])[:, :n]

"""Multi-head self-attention of vision transformers."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx

from rein_jax.kernels.attention import attend
from rein_jax.layers.hooks import NO_HOOKS


def split_heads(x, num_heads: int):
    """[B, N, heads * hd] -> [B, N, heads, hd]."""
    return x.reshape(*x.shape[:-1], num_heads, -1)


def query_value(bias):
    """A bias [..., 3d] of a fused qkv map without its part for k, which then takes no gradient either."""
    return bias * jnp.repeat(jnp.asarray([1, 0, 1], bias.dtype), bias.shape[-1] // 3)


class QueryValueBias(nnx.Linear):
    """A fused qkv map whose bias for k is zero (EVA-02)."""

    def __call__(self, x):
        return x @ self.kernel[...].astype(x.dtype) + query_value(self.bias[...]).astype(x.dtype)


class Attention(nnx.Module):
    """Self-attention with one fused qkv linear, its output ordered [q | k | v], each heads x hd. [B, N, d] -> [B, N, d].

    key_bias: False keeps the bias of k at zero."""

    def __init__(self, embed_dim: int, num_heads: int, *, key_bias: bool = True, rngs: nnx.Rngs):
        self.num_heads = num_heads
        self.qkv = (nnx.Linear if key_bias else QueryValueBias)(embed_dim, 3 * embed_dim, rngs=rngs)
        self.proj = nnx.Linear(embed_dim, embed_dim, rngs=rngs)

    def __call__(self, x, hooks=None, rotate=None, allowed=None):
        """`rotate` is applied to q and k [B, N, heads, hd] (rotary positions), if given; allowed: see `kernels.attention.attend`."""
        hooks = hooks or NO_HOOKS
        qkv = hooks.on_linear("qkv", x, self.qkv(x))
        q, k, v = (split_heads(part, self.num_heads) for part in jnp.split(qkv, 3, axis=-1))
        if rotate is not None:
            q, k = rotate(q), rotate(k)
        y = attend(q, k, v, allowed=allowed).reshape(x.shape)
        return hooks.on_linear("proj", y, self.proj(y))

    @staticmethod
    def linears(embed_dim: int) -> tuple:
        """What `BlockSpec.linears` says of this part."""
        return (("qkv", (embed_dim, 3 * embed_dim)), ("proj", (embed_dim, embed_dim)))

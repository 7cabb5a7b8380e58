"""Multi-head self-attention of vision transformers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from rein_jax.kernels.attention_cpu import blocked_attention, worth
from rein_jax.kernels.platforms import target


def attend(q, k, v, *, scale: float | None = None, allowed=None):
    """Scaled dot-product attention, [B, N, heads, hd], [B, M, heads, hd] twice -> [B, N, heads, hd]; float32 softmax.

    `scale` is hd^-0.5 unless given. allowed: bool [B, N, M], what each query may look at, at least one thing. Uses cuDNN's flash
    kernels where they may run, and on a CPU blocks that stay in its cache.
    """
    exported = not isinstance(q.shape[0], int)  # with a free batch size, to run anywhere: no loops that suit a CPU's cache
    if target() == "cpu" and q.dtype == jnp.float32 and not exported and worth(q.shape[1], k.shape[1], q.shape[2]):
        return blocked_attention(q, k, v, q.shape[-1] ** -0.5 if scale is None else scale, allowed)
    flash = target() == "gpu" and q.dtype in (jnp.bfloat16, jnp.float16) and q.shape[-1] % 8 == 0 and allowed is None
    flash = flash and q.shape[-1] <= 128  # the widest heads that every cuDNN flash kernel takes
    mask = None if allowed is None else allowed[:, None]
    if flash:
        return _flash(q, k, v, scale)
    return jax.nn.dot_product_attention(q, k, v, scale=scale, mask=mask)


def _flash(q, k, v, scale: float | None, implementation: str = "cudnn"):
    """cuDNN's kernels. JAX refuses their gradients at odd lengths, which therefore get one row more: a query whose result is dropped
    and a key that no query looks at. implementation: as JAX names it, for tests."""
    length, keys = q.shape[1], k.shape[1]
    q, k, v = (jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0))) for x in (q, k, v))
    kept = None if k.shape[1] == keys else jnp.full(len(k), keys, jnp.int32)
    y = jax.nn.dot_product_attention(q, k, v, scale=scale, key_value_seq_lengths=kept, implementation=implementation)
    return y[:, :length]


def split_heads(x, heads: int):
    """[B, N, heads * hd] -> [B, N, heads, hd]."""
    return x.reshape(*x.shape[:-1], heads, -1)


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

    def __init__(self, width: int, heads: int, *, key_bias: bool = True, rngs: nnx.Rngs):
        self.heads = heads
        self.qkv = (nnx.Linear if key_bias else QueryValueBias)(width, 3 * width, rngs=rngs)
        self.proj = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x, hooks, rotate=None, allowed=None):
        """`rotate` is applied to q and k [B, N, heads, hd] (rotary positions), if given; allowed: see `attend`."""
        qkv = hooks.on_linear("qkv", x, self.qkv(x))
        q, k, v = (split_heads(part, self.heads) for part in jnp.split(qkv, 3, axis=-1))
        if rotate is not None:
            q, k = rotate(q), rotate(k)
        y = attend(q, k, v, allowed=allowed).reshape(x.shape)
        return hooks.on_linear("proj", y, self.proj(y))

    @staticmethod
    def linears(width: int) -> tuple:
        """What `BlockSpec.linears` says of this part."""
        return (("qkv", (width, 3 * width)), ("proj", (width, width)))

"""Visual prompt tuning (Jia et al. 2022): learned tokens beside the patch tokens, new ones in every block (deep) or once (shallow)."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from rein_jax.adapters.base import Adapter, Blocks, LayerContext, block_spec, check_rate, dropout, require
from rein_jax.errors import UserError
from rein_jax.layers.stack import stacked


class Prompts(nnx.Module):
    """The prompts of one block [m, d], U(-v, v) with v = sqrt(6 / (3 p^2 + d))."""

    def __init__(self, num_tokens: int, embed_dim: int, patch: int, *, rngs: nnx.Rngs):
        bound = math.sqrt(6.0 / (3 * patch**2 + embed_dim))
        self.prompts = nnx.Param(jax.random.uniform(rngs.params(), (num_tokens, embed_dim), jnp.float32, -bound, bound))


class VPT(Adapter):
    """Visual prompt tuning: learned tokens beside the patch tokens. They stand after the prefix tokens, carry no position, and are dropped
    from the features.

    Args:
        backbone: a plain ViT, or one of its `block_specs`.
        rngs: of the initial values (default: nnx.Rngs(0)).
        num_tokens: prompts of a block.
        deep: every block gets its own and drops the ones before; otherwise the first block's stay to the end.
        dropout: on each image's copy of the prompts, in training.

    Raises:
        UserError: blocks that do not attend over one token sequence, or a value that cannot be.
    """

    def __init__(
        self, backbone: Blocks | None = None, *, rngs: nnx.Rngs | None = None, num_tokens: int = 150, deep: bool = True,
        dropout: float = 0.0,
    ):  # fmt: skip
        spec, rngs = block_spec(backbone), rngs or nnx.Rngs(0)
        require(spec, "tokens", "vpt")
        if num_tokens < 1:
            raise UserError(f"config.adapter.num_tokens is {num_tokens}; it must be at least 1.")
        self.spec, self.num_tokens, self.deep, self.rate = spec, num_tokens, deep, check_rate(dropout)
        make = lambda r: Prompts(num_tokens, spec.embed_dim, spec.patch, rngs=r)
        self.layers = stacked(make, spec.depth, rngs) if deep else None
        self.first = None if deep else make(rngs)

    def pre_forward(self, x, num_prefix_tokens: int, key=None):
        return x if self.deep else self._insert(x, self.first, num_prefix_tokens, key)

    def pre_block(self, context: LayerContext, x):
        return self._insert(x, context.layer, context.num_prefix_tokens, context.key) if self.deep else x

    def post_block(self, context: LayerContext, x):
        return self._drop(x, context.num_prefix_tokens) if self.deep else x

    def post_forward(self, x, num_prefix_tokens: int):
        return x if self.deep else self._drop(x, num_prefix_tokens)

    def _insert(self, x, layer: Prompts, num_prefix_tokens: int, key):
        """A layer's prompts after the prefix tokens of x [B, N, d]."""
        prompts = layer.prompts[...].astype(x.dtype)
        prompts = dropout(jnp.broadcast_to(prompts, (x.shape[0], *prompts.shape)), self.rate, key)
        return jnp.concatenate([x[:, :num_prefix_tokens], prompts, x[:, num_prefix_tokens:]], axis=1)

    def _drop(self, x, num_prefix_tokens: int):
        return jnp.concatenate([x[:, :num_prefix_tokens], x[:, num_prefix_tokens + self.num_tokens :]], axis=1)

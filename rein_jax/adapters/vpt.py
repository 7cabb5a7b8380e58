"""Visual prompt tuning (Jia et al. 2022): learned tokens beside the patch tokens, new ones in every block (deep) or once (shallow)."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from rein_jax.adapters.base import Adapter, Site, Stage, check_rate, dropout, require
from rein_jax.errors import UserError
from rein_jax.layers.stack import stacked


class Prompts(nnx.Module):
    """The prompts of one block [m, d], U(-v, v) with v = sqrt(6 / (3 p^2 + d))."""

    def __init__(self, tokens: int, width: int, patch: int, *, rngs: nnx.Rngs):
        bound = math.sqrt(6.0 / (3 * patch**2 + width))
        self.prompts = nnx.Param(jax.random.uniform(rngs.params(), (tokens, width), jnp.float32, -bound, bound))


class VPT(Adapter):
    """tokens: prompts a block (150). deep: every block gets its own and drops the ones before; otherwise the first block's stay to the end.
    dropout: on each image's copy of the prompts, in training. Prompts stand after the prefix tokens, carry no position, and are dropped
    from the features."""

    def __init__(self, stage: Stage, *, rngs: nnx.Rngs, tokens: int = 150, deep: bool = True, dropout: float = 0.0):
        require(stage, "tokens", "vpt")
        if tokens < 1:
            raise UserError(f"config.adapter.tokens is {tokens}; it must be at least 1.")
        self.stage, self.tokens, self.deep, self.rate = stage, tokens, deep, check_rate(dropout)
        make = lambda r: Prompts(tokens, stage.width, stage.patch, rngs=r)
        self.layers = stacked(make, stage.depth, rngs) if deep else None
        self.first = None if deep else make(rngs)

    def begin(self, x, prefix: int, key=None):
        return x if self.deep else self._insert(x, self.first, prefix, key)

    def enter(self, site: Site, x):
        return self._insert(x, site.layer, site.prefix, site.key) if self.deep else x

    def leave(self, site: Site, x):
        return self._drop(x, site.prefix) if self.deep else x

    def finish(self, x, prefix: int):
        return x if self.deep else self._drop(x, prefix)

    def _insert(self, x, layer: Prompts, prefix: int, key):
        """A layer's prompts after the prefix of x [B, N, d]."""
        prompts = layer.prompts[...].astype(x.dtype)
        prompts = dropout(jnp.broadcast_to(prompts, (x.shape[0], *prompts.shape)), self.rate, key)
        return jnp.concatenate([x[:, :prefix], prompts, x[:, prefix:]], axis=1)

    def _drop(self, x, prefix: int):
        return jnp.concatenate([x[:, :prefix], x[:, prefix + self.tokens :]], axis=1)

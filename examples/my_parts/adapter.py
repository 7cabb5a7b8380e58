"""An adapter of one's own: parameters with one row for each block, and the hooks at which it acts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

import rein_jax as rj


class ScaleAndShift(nnx.Module):
    def __init__(self, depth: int, dim: int):
        self.scale = rj.param(jnp.ones((depth, dim)), decay=False, stacked=1)  # weight decay would pull it to 0
        self.shift = rj.param(jnp.zeros((depth, dim)), stacked=1)


@rj.register("adapter", "ssf")
class SSF(rj.Adapter):
    """Scales and shifts the channels behind every block (Lian et al. 2022); `strength` is an option that configs may set."""

    def __init__(self, backbone: rj.Backbone | rj.BlockSpec, *, strength: float = 1.0, rngs: nnx.Rngs | None = None):
        super().__init__(backbone)
        self.strength = strength
        self.layers = ScaleAndShift(self.spec.depth, self.spec.embed_dim)

    def post_block(self, context: rj.adapters.LayerContext, x: jax.Array) -> jax.Array:
        layer = context.layer  # this block's row of `self.layers`
        changed = x * layer.scale[...].astype(x.dtype) + layer.shift[...].astype(x.dtype)
        return x + self.strength * (changed - x)

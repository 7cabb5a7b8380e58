"""AdaptFormer (Chen et al. 2022): a small bottleneck beside the MLP of every block."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from rein_jax.adapters.base import Adapter, Blocks, LayerContext, active_blocks, block_spec, check_rate, dropout, require
from rein_jax.errors import UserError
from rein_jax.layers.init import torch_uniform
from rein_jax.layers.stack import stacked


class Bottleneck(nnx.Module):
    """down, ReLU, up; `up` starts at zero, so that the frozen model is unchanged at the start."""

    def __init__(self, embed_dim: int, hidden: int, *, rngs: nnx.Rngs):
        zeros = nnx.initializers.zeros_init()
        self.down = nnx.Linear(embed_dim, hidden, kernel_init=torch_uniform(embed_dim), bias_init=zeros, rngs=rngs)
        self.up = nnx.Linear(hidden, embed_dim, kernel_init=zeros, bias_init=zeros, rngs=rngs)


class AdaptFormer(Adapter):
    """AdaptFormer: MLP branch + scale * up(dropout(relu(down(x)))), x being the stream before the MLP's norm.

    Args:
        backbone: what it adapts, or one of its `block_specs`.
        rngs: of the initial values (default: nnx.Rngs(0)).
        hidden: width of the bottleneck.
        scale: fixed factor of the branch.
        dropout: after the ReLU, in training.
        blocks: numbers of the blocks it acts on; None for all.

    Raises:
        UserError: blocks without an MLP, or a value that cannot be.
    """

    def __init__(
        self, backbone: Blocks | None = None, *, rngs: nnx.Rngs | None = None, hidden: int = 64, scale: float = 0.1, dropout: float = 0.1,
        blocks: tuple[int, ...] | None = None,
    ):  # fmt: skip
        spec, rngs = block_spec(backbone), rngs or nnx.Rngs(0)
        require(spec, "mlp", "adaptformer")
        if hidden < 1:
            raise UserError(f"config.adapter.hidden is {hidden}; it must be at least 1.")
        self.spec, self.factor, self.rate, self.active = spec, scale, check_rate(dropout), active_blocks(blocks, spec)
        depth = spec.depth if self.active is None else len(self.active)
        self.layers = stacked(lambda r: Bottleneck(spec.embed_dim, hidden, rngs=r), depth, rngs)

    def on_mlp(self, context: LayerContext, x, y):
        inner = dropout(jax.nn.relu(context.layer.down(x)), self.rate, context.key)
        return y + jnp.asarray(self.factor, y.dtype) * context.layer.up(inner).astype(y.dtype)

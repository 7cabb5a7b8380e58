"""The feed-forward parts of transformer blocks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from rein_jax.kernels.gelu import gelu
from rein_jax.layers.hooks import NO_HOOKS


def quick_gelu(x):
    """CLIP's activation x * sigmoid(1.702 x)."""
    return x * jax.nn.sigmoid(1.702 * x)


class Mlp(nnx.Module):
    """Linear, activation, linear. [..., d] -> [..., d]."""

    def __init__(self, embed_dim: int, hidden_dim: int, *, activation=gelu, rngs: nnx.Rngs):
        self.fc1 = nnx.Linear(embed_dim, hidden_dim, rngs=rngs)
        self.fc2 = nnx.Linear(hidden_dim, embed_dim, rngs=rngs)
        self.activation = activation

    def __call__(self, x, hooks=None):
        hooks = hooks or NO_HOOKS
        y = self.activation(hooks.on_linear("fc1", x, self.fc1(x)))
        return hooks.on_linear("fc2", y, self.fc2(y))

    @staticmethod
    def linears(embed_dim: int, hidden_dim: int) -> tuple:
        """What `BlockSpec.linears` says of this part."""
        return (("fc1", (embed_dim, hidden_dim)), ("fc2", (hidden_dim, embed_dim)))


class FusedSwiGLU(nnx.Module):
    """DINOv2-g's gated MLP: one linear gives gate and value, silu(gate) * value, linear back."""

    def __init__(self, embed_dim: int, hidden_dim: int, *, rngs: nnx.Rngs):
        self.w12 = nnx.Linear(embed_dim, 2 * hidden_dim, rngs=rngs)
        self.w3 = nnx.Linear(hidden_dim, embed_dim, rngs=rngs)

    def __call__(self, x, hooks=None):
        hooks = hooks or NO_HOOKS
        gate, value = jnp.split(hooks.on_linear("w12", x, self.w12(x)), 2, axis=-1)
        y = jax.nn.silu(gate) * value
        return hooks.on_linear("w3", y, self.w3(y))

    @staticmethod
    def linears(embed_dim: int, hidden_dim: int) -> tuple:
        return (("w12", (embed_dim, 2 * hidden_dim)), ("w3", (hidden_dim, embed_dim)))

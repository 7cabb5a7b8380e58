"""LayerNorm, whose arithmetic is `kernels.layer_norm`, and GroupNorm."""

from __future__ import annotations

import jax
from flax import nnx

from rein_jax.kernels import layer_norm as kernel

UNDECAYED = {"scale_metadata": {"decay": False}, "bias_metadata": {"decay": False}}  # what every norm says, as the published recipes do


class LayerNorm(nnx.LayerNorm):
    """Flax's parameters, with a gradient that keeps little for the backward pass."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., embed_dim] -> [..., embed_dim]."""
        return kernel.layer_norm(x, self.scale[...], self.bias[...], self.epsilon)


def layer_norm(embed_dim: int, eps: float, *, rngs: nnx.Rngs) -> LayerNorm:
    """LayerNorm over the last axis. The fast variance (E[x^2] - E[x]^2) loses digits on ViT streams, so it is off."""
    return LayerNorm(embed_dim, epsilon=eps, use_fast_variance=False, rngs=rngs, **UNDECAYED)


def group_norm(channels: int, groups: int, *, fast: bool = False, rngs: nnx.Rngs) -> nnx.GroupNorm:
    """GroupNorm with PyTorch's epsilon; fast: the variance as E[x^2] - E[x]^2."""
    return nnx.GroupNorm(channels, groups, epsilon=1e-5, use_fast_variance=fast, rngs=rngs, **UNDECAYED)

"""LayerNorm with the accuracy of PyTorch's: two-pass float32 statistics whatever the stream's dtype."""

from __future__ import annotations

from flax import nnx


def layer_norm(width: int, eps: float, *, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """LayerNorm over the last axis. The fast variance (E[x^2] - E[x]^2) loses digits on ViT streams, so it is off."""
    return nnx.LayerNorm(width, epsilon=eps, use_fast_variance=False, rngs=rngs)

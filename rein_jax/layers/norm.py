"""LayerNorm with the accuracy of PyTorch's: two-pass float32 statistics whatever the stream's dtype."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from rein_jax.platforms import target


class LayerNorm(nnx.LayerNorm):
    """Flax's, with its gradient's sums as matrix products on a CPU: XLA adds up a product of arrays there at 20 ns a number."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., width] -> [..., width]."""
        if target() != "cpu" or x.dtype != jnp.float32:
            return super().__call__(x)
        scale, bias = (part[...].astype(x.dtype) for part in (self.scale, self.bias))
        return _normalised(self.epsilon, x.reshape(-1, x.shape[-1]), scale, bias).reshape(x.shape)


def layer_norm(width: int, eps: float, *, rngs: nnx.Rngs) -> LayerNorm:
    """LayerNorm over the last axis. The fast variance (E[x^2] - E[x]^2) loses digits on ViT streams, so it is off."""
    return LayerNorm(width, epsilon=eps, use_fast_variance=False, rngs=rngs)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _normalised(eps: float, x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """x [N, C], scale and bias [C] -> [N, C]."""
    return _forward(eps, x, scale, bias)[0]


def _forward(eps, x, scale, bias):
    mean = x.mean(axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.square(x - mean).mean(axis=-1, keepdims=True) + eps)
    return (x - mean) * (inverse * scale) + bias, (x, mean, inverse, scale)


def _backward(eps, saved, gradient):
    x, mean, inverse, scale = saved
    rows, width = x.shape
    average, total = jnp.full((width, 1), 1 / width, x.dtype), jnp.ones((1, rows), x.dtype)
    unit = (x - mean) * inverse
    of_unit = gradient * scale
    of_x = inverse * (of_unit - of_unit @ average - unit * ((of_unit * unit) @ average))
    return of_x, (total @ (gradient * unit))[0], (total @ gradient)[0]


_normalised.defvjp(_forward, _backward)

"""LayerNorm with the accuracy of PyTorch's: two-pass float32 statistics whatever the stream's dtype."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from rein_jax.kernels.platforms import target


class LayerNorm(nnx.LayerNorm):
    """Flax's, with a gradient that needs the input and its statistics alone: differentiated as it stands it keeps three float32 arrays
    of the input's size, which were a quarter of a bfloat16 ViT-L's temporaries."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., width] -> [..., width]."""
        return _normalised(self.epsilon, target() == "cpu", x, self.scale[...], self.bias[...])


def layer_norm(width: int, eps: float, *, rngs: nnx.Rngs) -> LayerNorm:
    """LayerNorm over the last axis. The fast variance (E[x^2] - E[x]^2) loses digits on ViT streams, so it is off."""
    return LayerNorm(width, epsilon=eps, use_fast_variance=False, rngs=rngs)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _normalised(eps: float, products: bool, x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """x [..., C], scale and bias [C] -> [..., C]. products: the gradient's sums as matrix products, for a CPU: XLA adds up a product of
    arrays there at 20 ns a number. Elsewhere axes are left alone: joining one that is split among devices would gather it."""
    return _forward(eps, products, x, scale, bias)[0]


def exact(x: jax.Array) -> jax.Array:
    """x in float32, or as it is where it is wider."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _forward(eps, products, x, scale, bias):
    wide = exact(x)
    mean = wide.mean(axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.square(wide - mean).mean(axis=-1, keepdims=True) + eps)
    y = (wide - mean) * (inverse * exact(scale)) + exact(bias)
    return y.astype(jnp.result_type(x, scale, bias)), (x, mean, inverse, scale, bias)


def _backward(eps, products, saved, gradient):
    x, mean, inverse, scale, bias = saved
    width, gradient = x.shape[-1], exact(gradient)
    if products:
        average, total = jnp.full((width, 1), 1 / width, gradient.dtype), jnp.ones((1, x.size // width), gradient.dtype)
        over_row, over_rows = lambda a: a @ average, lambda a: (total @ a.reshape(-1, width))[0]
    else:
        over_row, over_rows = lambda a: a.mean(axis=-1, keepdims=True), lambda a: a.sum(axis=tuple(range(a.ndim - 1)))
    unit = (exact(x) - mean) * inverse
    of_unit = gradient * exact(scale)
    of_x = inverse * (of_unit - over_row(of_unit) - unit * over_row(of_unit * unit))
    return of_x.astype(x.dtype), over_rows(gradient * unit).astype(scale.dtype), over_rows(gradient).astype(bias.dtype)


_normalised.defvjp(_forward, _backward)

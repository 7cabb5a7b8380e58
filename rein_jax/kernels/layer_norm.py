"""LayerNorm over the last axis with the accuracy of PyTorch's: two-pass float32 statistics whatever the stream's dtype."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from rein_jax.kernels.dtypes import at_least_float32
from rein_jax.kernels.platforms import target


def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float) -> jax.Array:
    """x [..., C], scale and bias [C] -> [..., C]."""
    return FORMS["products" if target() == "cpu" else "sums"](x, scale, bias, eps)


def _reference(x, scale, bias, eps):
    return _forward(eps, False, x, scale, bias)[0]


def _sums(x, scale, bias, eps):
    """The gradient needs the input and its statistics alone: differentiated as it stands LayerNorm keeps three float32 arrays of the
    input's size, which were a quarter of a bfloat16 ViT-L's temporaries. Axes are left alone: joining one that is split among devices
    would gather it."""
    return _normalized(eps, False, x, scale, bias)


def _products(x, scale, bias, eps):
    """The same with the gradient's sums as matrix products, for a CPU: XLA adds up a product of arrays there at 20 ns a number."""
    return _normalized(eps, True, x, scale, bias)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _normalized(eps: float, products: bool, x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    return _forward(eps, products, x, scale, bias)[0]


def _forward(eps, products, x, scale, bias):
    wide = at_least_float32(x)
    mean = wide.mean(axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.square(wide - mean).mean(axis=-1, keepdims=True) + eps)
    y = (wide - mean) * (inverse * at_least_float32(scale)) + at_least_float32(bias)
    return y.astype(jnp.result_type(x, scale, bias)), (x, mean, inverse, scale, bias)


def _backward(eps, products, saved, gradient):
    x, mean, inverse, scale, bias = saved
    width, gradient = x.shape[-1], at_least_float32(gradient)
    if products:
        average, total = jnp.full((width, 1), 1 / width, gradient.dtype), jnp.ones((1, x.size // width), gradient.dtype)
        over_row, over_rows = lambda a: a @ average, lambda a: (total @ a.reshape(-1, width))[0]
    else:
        over_row, over_rows = lambda a: a.mean(axis=-1, keepdims=True), lambda a: a.sum(axis=tuple(range(a.ndim - 1)))
    unit = (at_least_float32(x) - mean) * inverse
    of_unit = gradient * at_least_float32(scale)
    of_x = inverse * (of_unit - over_row(of_unit) - unit * over_row(of_unit * unit))
    return of_x.astype(x.dtype), over_rows(gradient * unit).astype(scale.dtype), over_rows(gradient).astype(bias.dtype)


_normalized.defvjp(_forward, _backward)

FORMS = {"reference": _reference, "sums": _sums, "products": _products}

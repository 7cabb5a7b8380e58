"""Initial values as PyTorch gives them, so that training starts from the original's distribution."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx


def torch_uniform(fan_in: int):
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's default for the weight and the bias of Linear and Conv."""
    bound = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


def torch_linear(fan_in: int, fan_out: int, *, init: str = "torch", rngs: nnx.Rngs) -> nnx.Linear:
    """A Linear with initial values "torch" (see `torch_uniform`), "eva02" (N(0, 0.02), zero bias) or "zeros"."""
    zeros = nnx.initializers.zeros_init()
    kernel, bias = {
        "torch": (torch_uniform(fan_in), torch_uniform(fan_in)),
        "eva02": (nnx.initializers.normal(0.02), zeros),
        "zeros": (zeros, zeros),
    }[init]
    return nnx.Linear(fan_in, fan_out, kernel_init=kernel, bias_init=bias, rngs=rngs)

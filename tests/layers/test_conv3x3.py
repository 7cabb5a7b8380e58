"""The 3x3 convolution and its gradients against nnx.Conv."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rein_jax.layers.conv3x3 import Conv3x3


@pytest.mark.parametrize("bias", [True, False])
def test_equals_the_librarys_convolution(bias):
    ours = Conv3x3(4, 6, use_bias=bias, kernel_init=nnx.initializers.normal(1.0), rngs=nnx.Rngs(0))
    theirs = nnx.Conv(4, 6, (3, 3), use_bias=bias, rngs=nnx.Rngs(1))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 7, 4)), jnp.float32)
    arrays = {"kernel": ours.kernel[...], "bias": jnp.arange(6.0)}

    def run(module):
        def total(x, arrays):
            graph, state = nnx.split(module)
            state["kernel"] = state["kernel"].replace(arrays["kernel"])
            if bias:
                state["bias"] = state["bias"].replace(arrays["bias"])
            y = nnx.merge(graph, state)(x)
            return jnp.sum(jnp.sin(y)), y

        return jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))(x, arrays)

    for got, want in zip(jax.tree.leaves(run(ours)), jax.tree.leaves(run(theirs)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)

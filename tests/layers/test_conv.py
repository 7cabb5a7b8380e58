"""Convolution modules against Flax's; the operations themselves are tested in tests/kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rein_jax.layers.conv import Conv3x3, Depthwise3x3, Doubled
from tests.kernels.forms import everywhere

KEYS = jax.random.split(jax.random.key(0), 4)


@pytest.mark.parametrize("bias", [True, False])
def test_conv3x3_equals_the_librarys_convolution(bias):
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


def test_depthwise_convolution_and_its_gradients():
    layer, x = Depthwise3x3(6, rngs=nnx.Rngs(0)), jax.random.normal(KEYS[0], (2, 5, 7, 6))
    graph, state = nnx.split(layer)
    run = jax.grad(lambda state, x: jnp.sum(jnp.sin(nnx.merge(graph, state)(x))), argnums=(0, 1))
    here, *others = everywhere(run, state, x)
    for there in others:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), here, there)


def test_depthwise_convolution_is_the_librarys():
    layer, x = Depthwise3x3(6, rngs=nnx.Rngs(0)), jax.random.normal(KEYS[0], (2, 5, 7, 6))
    np.testing.assert_allclose(layer(x), nnx.Conv.__call__(layer, x), rtol=1e-5, atol=1e-5)


def test_doubling_is_a_transposed_convolution():
    layer, x = Doubled(5, rngs=nnx.Rngs(0), bias_init=nnx.initializers.normal()), jax.random.normal(KEYS[0], (2, 3, 4, 5))
    np.testing.assert_allclose(layer(x), nnx.ConvTranspose.__call__(layer, x), rtol=1e-5, atol=1e-5)

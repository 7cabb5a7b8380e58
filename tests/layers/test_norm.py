"""LayerNorm's module and GELU against Flax's and JAX's: values, gradients and what the backward pass keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rein_jax.kernels.gelu import gelu
from rein_jax.layers.norm import LayerNorm, layer_norm
from tests.kernels.forms import close, everywhere

KEYS = jax.random.split(jax.random.key(0), 4)


def test_layer_norm_and_its_gradient():
    norm = layer_norm(48, 1e-6, rngs=nnx.Rngs(0))
    graph, state = nnx.split(norm)
    state = jax.tree.map(lambda a: a + 0.3 * jax.random.normal(KEYS[1], a.shape), state)
    x, weights = 5 + 3 * jax.random.normal(KEYS[0], (3, 7, 48)), jax.random.normal(KEYS[2], (3, 7, 48))
    close(everywhere(jax.value_and_grad(lambda s, x: jnp.sum(jnp.abs(nnx.merge(graph, s)(x) - weights)), argnums=(0, 1)), state, x))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", ["norm", "gelu"])
def test_a_gradient_from_the_input_alone_is_what_differentiation_gives(name, dtype):
    """Against Flax's LayerNorm and JAX's GELU in float32, and what the backward pass keeps: the input and a number or two a row."""
    norm, plain = (make(48, epsilon=1e-6, use_fast_variance=False, rngs=nnx.Rngs(0)) for make in (LayerNorm, nnx.LayerNorm))
    scale, bias = 1 + 0.3 * jax.random.normal(KEYS[1], (48,)), jax.random.normal(KEYS[3], (48,))
    for module in (norm, plain):
        module.scale, module.bias = nnx.Param(scale.astype(dtype)), nnx.Param(bias.astype(dtype))
    ours, theirs = {"norm": (norm, plain), "gelu": (gelu, lambda x: jax.nn.gelu(x, approximate=False))}[name]
    x = (0.3 + 2 * jax.random.normal(KEYS[0], (5, 7, 48))).astype(dtype)
    (y, back), (exact, exact_back) = jax.vjp(ours, x), jax.vjp(theirs, x.astype(jnp.float32))
    assert y.dtype == dtype
    gradient = jax.random.normal(KEYS[2], x.shape).astype(dtype)
    (found,), (expected,) = back(gradient), exact_back(gradient.astype(exact.dtype))
    assert found.dtype == dtype
    limit = {"atol": 2e-6} if dtype == jnp.float32 else {"rtol": 2**-7, "atol": 2**-7}
    np.testing.assert_allclose(y.astype(jnp.float32), exact.astype(jnp.float32), **limit)
    np.testing.assert_allclose(found.astype(jnp.float32), expected.astype(jnp.float32), **limit)
    assert sum(kept.nbytes for kept in jax.tree.leaves(back)) <= x.nbytes + 2 * 4 * 35 + 2 * scale.astype(dtype).nbytes

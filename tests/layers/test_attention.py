"""Attention: what is padded for cuDNN changes nothing. The kernels themselves are tested in tests/gpu."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rein_jax import trees
from rein_jax.adapters.base import NONE, LayerContext
from rein_jax.backbones.run_blocks import Hooks
from rein_jax.layers.attention import Attention, _flash


@pytest.mark.parametrize("queries, keys", [(8, 8), (17, 17), (17, 8), (8, 17)])
def test_padding_to_even_lengths_changes_neither_values_nor_gradients(queries, keys):
    """JAX refuses cuDNN's gradients at odd lengths, as a ViT with a class token has them."""
    draw = lambda key, length: jax.random.normal(jax.random.key(key), (2, length, 3, 8))
    arrays, weight = (draw(0, queries), draw(1, keys), draw(2, keys)), draw(3, queries)
    padded = lambda q, k, v: jnp.sum(weight * _flash(q, k, v, 0.3, "xla"))
    plain = lambda q, k, v: jnp.sum(weight * jax.nn.dot_product_attention(q, k, v, scale=0.3))
    for found, true in zip(jax.tree.leaves(jax.value_and_grad(padded, (0, 1, 2))(*arrays)),
                           jax.tree.leaves(jax.value_and_grad(plain, (0, 1, 2))(*arrays)), strict=True):
        assert found.shape == true.shape
        np.testing.assert_allclose(found, true, rtol=1e-5, atol=1e-5)


def test_a_fused_map_without_key_bias_never_gets_one():
    """EVA-02's fused form: files have no place for it, and through rotary positions its gradient would not be zero."""
    attention = Attention(8, 2, key_bias=False, rngs=nnx.Rngs(0))
    skeleton, leaves, _ = trees.split(attention, (".*",))
    x, angles = jax.random.normal(jax.random.key(0), (1, 5, 8)), jnp.arange(5.0)[None, :, None, None]
    rotate = lambda q: q * jnp.cos(angles) + jnp.roll(q, 1, -1) * jnp.sin(angles)
    loss = lambda leaves: jnp.square(trees.merge(skeleton, leaves)(x, Hooks(NONE, LayerContext(None, 0, 1, None)), rotate)).sum()
    grad = np.split(np.asarray(jax.grad(loss)(leaves)["qkv/bias"]), 3)
    assert np.any(grad[0]) and not np.any(grad[1]) and np.any(grad[2])
    assert np.isclose(loss(leaves), loss({**leaves, "qkv/bias": leaves["qkv/bias"].at[8:16].set(3.0)}))

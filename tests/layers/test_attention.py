"""Attention: what is padded for cuDNN changes nothing. The kernels themselves are tested in tests/gpu."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rein_jax.layers.attention import _flash


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

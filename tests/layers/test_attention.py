"""The attention module; the operation itself is tested in tests/kernels."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rein_jax import trees
from rein_jax.adapters.base import NONE, LayerContext
from rein_jax.backbones.run_blocks import Hooks
from rein_jax.layers.attention import Attention


def test_a_fused_map_without_key_bias_never_gets_one():
    """EVA-02's fused form: files have no place for it, and through rotary positions its gradient would not be zero."""
    attention = Attention(8, 2, key_bias=False, rngs=nnx.Rngs(0))
    module_def, leaves, _ = trees.split(attention, (".*",))
    x, angles = jax.random.normal(jax.random.key(0), (1, 5, 8)), jnp.arange(5.0)[None, :, None, None]
    rotate = lambda q: q * jnp.cos(angles) + jnp.roll(q, 1, -1) * jnp.sin(angles)
    loss = lambda leaves: jnp.square(trees.merge(module_def, leaves)(x, Hooks(NONE, LayerContext(None, 0, 1, None)), rotate)).sum()
    grad = np.split(np.asarray(jax.grad(loss)(leaves)["qkv/bias"]), 3)
    assert np.any(grad[0]) and not np.any(grad[1]) and np.any(grad[2])
    assert np.isclose(loss(leaves), loss({**leaves, "qkv/bias": leaves["qkv/bias"].at[8:16].set(3.0)}))

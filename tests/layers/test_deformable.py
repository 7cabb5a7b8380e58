"""The deformable attention module; its sums are tested in tests/kernels."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rein_jax import trees
from rein_jax.layers.deformable import DeformableAttention, reference_points

SIZES = ((3, 2), (5, 4), (6, 7))
TOTAL = sum(h * w for h, w in SIZES)


def test_attention_with_zero_offsets_averages_around_the_point():
    """With zero kernels the initial offsets are the ring: every head reads the map at k steps in its direction."""
    attention = DeformableAttention(8, 4, len(SIZES), 2, rngs=nnx.Rngs(0))
    module_def, _, params = trees.split(attention, ())
    ring = np.asarray(params["offsets/bias"]).reshape(4, 3, 2, 2)
    np.testing.assert_allclose(ring[:, 0, 0], [[1, 0], [0, 1], [-1, 0], [0, -1]], atol=1e-6)
    np.testing.assert_allclose(ring[:, :, 1], 2 * ring[:, :, 0], atol=1e-6)
    params["offsets/bias"] = jnp.zeros_like(params["offsets/bias"])
    params["value/kernel"] = params["output/kernel"] = jnp.eye(8)
    x = jnp.concatenate([jnp.full((1, h * w, 8), float(i)) for i, (h, w) in enumerate(SIZES)], axis=1)
    out = jax.jit(lambda params, x: trees.merge(module_def, params)(x, x, SIZES))(params, x)
    inner = [6 + 2 * 4 + 2]  # a position away from the borders of every level: (0.625, 0.5) of the middle level
    np.testing.assert_allclose(out[0, inner], np.full((1, 8), 1.0), atol=1e-6)


def test_reference_points_are_cell_centres():
    points = reference_points(((1, 2), (2, 1)))
    np.testing.assert_allclose(points, [[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]])


def test_half_precision_keeps_locations_in_float32():
    attention = DeformableAttention(8, 4, len(SIZES), 2, rngs=nnx.Rngs(0))
    module_def, _, params = trees.split(attention, ())
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, TOTAL, 8)), jnp.bfloat16)
    run = jax.jit(lambda params, x: trees.merge(module_def, params)(x, x, SIZES))
    low, full = run(trees.cast(params, jnp.bfloat16), x), run(params, x.astype(jnp.float32))
    assert low.dtype == jnp.bfloat16
    assert np.abs(low.astype(jnp.float32) - full).max() < 0.05 * np.abs(full).max()

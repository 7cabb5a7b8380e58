"""Deformable attention against a torch twin built on grid_sample, and its low-memory form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rein_jax import trees
from rein_jax.layers import deformable
from rein_jax.layers.deformable import DeformableAttention, deformable_sum, reference_points

SIZES = ((3, 2), (5, 4), (6, 7))
TOTAL = sum(h * w for h, w in SIZES)


def _case(seed=0, heads=4, channels=3, points=2, batch=2):
    rng = np.random.default_rng(seed)
    value = rng.normal(size=(batch, TOTAL, heads, channels)).astype(np.float32)
    places = rng.uniform(-0.2, 1.2, size=(batch, TOTAL, heads, len(SIZES), points, 2)).astype(np.float32)
    weights = rng.random((batch, TOTAL, heads, len(SIZES), points)).astype(np.float32)
    return value, places, weights


def _twin(value, places, weights):
    """One grid_sample a level, as Deformable DETR's reference in torch."""
    torch = pytest.importorskip("torch")
    value, places, weights = (torch.tensor(a, requires_grad=True) for a in (value, places, weights))
    batch, _, heads, channels = value.shape
    total, start = 0, 0
    for level, (h, w) in enumerate(SIZES):
        v = value[:, start:start + h * w].permute(0, 2, 3, 1).reshape(batch * heads, channels, h, w)
        grid = 2 * places[:, :, :, level].transpose(1, 2).reshape(batch * heads, TOTAL, -1, 2) - 1
        read = torch.nn.functional.grid_sample(v, grid, align_corners=False).reshape(batch, heads, channels, TOTAL, -1)
        total = total + (read * weights[:, :, :, level].permute(0, 2, 1, 3)[:, :, None]).sum(-1).permute(0, 3, 1, 2)
        start += h * w
    (total**2).sum().backward()
    return total.detach().numpy(), [a.grad.numpy() for a in (value, places, weights)]


def _both(args):
    def loss(*args):
        out = deformable_sum(args[0], SIZES, *args[1:])
        return (out**2).sum(), out

    (_, out), grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(*map(jnp.asarray, args))
    return out, grads


@pytest.mark.parity
def test_values_and_gradients_equal_torch():
    args = _case()
    want, want_grads = _twin(*args)
    out, grads = _both(args)
    assert np.abs(out - want).max() <= 1e-5 * np.abs(want).max()
    for got, expected in zip(grads, want_grads, strict=True):
        assert np.abs(got - expected).max() <= 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("part", [1, 17, 34])
def test_parts_of_queries_give_the_whole(part, monkeypatch):
    args = [jnp.asarray(a) for a in _case()]
    assert TOTAL == 68
    want, want_grads = _both(args)
    monkeypatch.setattr(deformable, "_queries_at_once", lambda *_: part)
    got, grads = _both(args)
    for ours, expected in zip((got, *grads), (want, *want_grads), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_parts_divide_the_queries():
    for queries in (1, 7, 68, 5376, 21504):
        for low_memory in (False, True):
            assert queries % deformable._queries_at_once(queries, 384, low_memory) == 0


def test_attention_with_zero_offsets_averages_around_the_point():
    """With zero kernels the initial offsets are the ring: every head reads the map at k steps in its direction."""
    attention = DeformableAttention(8, 4, len(SIZES), 2, rngs=nnx.Rngs(0))
    skeleton, _, params = trees.split(attention, ())
    ring = np.asarray(params["offsets/bias"]).reshape(4, 3, 2, 2)
    np.testing.assert_allclose(ring[:, 0, 0], [[1, 0], [0, 1], [-1, 0], [0, -1]], atol=1e-6)
    np.testing.assert_allclose(ring[:, :, 1], 2 * ring[:, :, 0], atol=1e-6)
    params["offsets/bias"] = jnp.zeros_like(params["offsets/bias"])
    params["value/kernel"] = params["output/kernel"] = jnp.eye(8)
    x = jnp.concatenate([jnp.full((1, h * w, 8), float(i)) for i, (h, w) in enumerate(SIZES)], axis=1)
    out = jax.jit(lambda params, x: trees.merge(skeleton, params)(x, x, SIZES))(params, x)
    inner = [6 + 2 * 4 + 2]  # a position away from the borders of every level: (0.625, 0.5) of the middle level
    np.testing.assert_allclose(out[0, inner], np.full((1, 8), 1.0), atol=1e-6)


def test_reference_points_are_cell_centres():
    points = reference_points(((1, 2), (2, 1)))
    np.testing.assert_allclose(points, [[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]])


def test_half_precision_keeps_places_in_float32():
    attention = DeformableAttention(8, 4, len(SIZES), 2, rngs=nnx.Rngs(0))
    skeleton, _, params = trees.split(attention, ())
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, TOTAL, 8)), jnp.bfloat16)
    run = jax.jit(lambda params, x: trees.merge(skeleton, params)(x, x, SIZES))
    low, full = run(trees.cast(params, jnp.bfloat16), x), run(params, x.astype(jnp.float32))
    assert low.dtype == jnp.bfloat16
    assert np.abs(low.astype(jnp.float32) - full).max() < 0.05 * np.abs(full).max()

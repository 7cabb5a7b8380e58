"""The bilinear sampler against torch's grid_sample, at and beyond the borders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rein_jax.kernels.sampling import sample, sample_vectors


def _case(seed=0):
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(2, 3, 5, 7)).astype(np.float32)
    points = rng.uniform(-0.4, 1.4, size=(2, 3, 40, 2)).astype(np.float32)
    points[0, 0, :4] = [[0, 0], [1, 1], [0.5 / 7, 0.5 / 5], [0.5, 1]]
    return maps, points


def _torch(maps, points):
    torch = pytest.importorskip("torch")
    m, p = torch.tensor(maps, requires_grad=True), torch.tensor(points, requires_grad=True)
    flat = torch.nn.functional.grid_sample(m.reshape(6, 1, 5, 7), 2 * p.reshape(6, 1, 40, 2) - 1, align_corners=False)
    (flat**2).sum().backward()
    return flat.reshape(2, 3, 40).detach().numpy(), m.grad.numpy(), p.grad.numpy()


@pytest.mark.parity
def test_values_and_gradients_equal_grid_sample():
    maps, points = _case()
    want, by_map, by_point = _torch(maps, points)
    got = sample(maps := jnp.asarray(maps), points := jnp.asarray(points))
    assert np.abs(got - want).max() <= 2e-6
    grads = jax.jit(jax.grad(lambda m, p: (sample(m, p) ** 2).sum(), argnums=(0, 1)))(maps, points)
    assert np.abs(grads[0] - by_map).max() <= 1e-5 * np.abs(by_map).max()
    # At cell borders the derivative jumps: leave the four hand-made points out.
    assert np.abs(grads[1] - by_point)[:, :, 4:].max() <= 2e-5 * np.abs(by_point).max()


def test_vectors_are_read_like_their_channels():
    maps, points = _case()
    vectors = sample_vectors(jnp.moveaxis(jnp.asarray(maps), 1, -1), jnp.asarray(points[:, 0]))
    each = sample(jnp.asarray(maps), jnp.asarray(np.repeat(points[:, :1], 3, axis=1)))
    np.testing.assert_allclose(vectors, np.moveaxis(np.asarray(each), 1, -1), atol=1e-6)


def test_far_away_and_undefined_points_stay_inside_memory():
    points = jnp.asarray([[1e30, 0.5], [-1e30, 0.5], [jnp.inf, 0.5], [-jnp.inf, -jnp.inf], [jnp.nan, 0.5]])
    values = np.asarray(sample(jnp.ones((5, 7)), points))
    assert np.all((values == 0) | np.isnan(values)) and np.all(values[:2] == 0)

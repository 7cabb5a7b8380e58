"""LayerNorm: every form against the reference; the module is tested in tests/layers."""

import jax
import jax.numpy as jnp
import pytest

from rein_jax.kernels import layer_norm as module
from rein_jax.kernels.layer_norm import FORMS, layer_norm
from tests.kernels.forms import hold, picked

KEYS = jax.random.split(jax.random.key(0), 3)


def arrays(shape, dtype=jnp.float32):
    width = shape[-1]
    return [a.astype(dtype) for a in (0.3 + 2 * jax.random.normal(KEYS[0], shape), 1 + 0.3 * jax.random.normal(KEYS[1], (width,)),
                                      jax.random.normal(KEYS[2], (width,)))]


@pytest.mark.parametrize("shape", [(3, 7, 48), (5, 33), (2, 3, 5, 8), (1, 5)])
def test_every_form_is_the_reference(shape):
    hold(FORMS, lambda form, *a: form(*a, 1e-6), *arrays(shape))


def test_every_form_of_half_precision_is_near_the_reference():
    hold(FORMS, lambda form, *a: form(*a, 1e-6), *arrays((4, 5, 48), jnp.bfloat16), values=2**-7, gradients=2**-6)


@pytest.mark.parametrize("form", FORMS)
def test_statistics_keep_their_digits_far_from_zero(form):
    """Two passes: the mean of squares minus the square of the mean would leave nothing here."""
    x = 1e4 + jax.random.normal(KEYS[0], (6, 64))
    y = FORMS[form](x, jnp.ones(64), jnp.zeros(64), 1e-6)
    exact = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    assert jnp.abs(y - exact).max() < 5e-3


@pytest.mark.parametrize("platform, form", [("cpu", "products"), ("gpu", "sums"), ("tpu", "sums")])
def test_which_form_runs_where(monkeypatch, platform, form):
    assert picked(module, monkeypatch, platform, lambda: layer_norm(*arrays((2, 3)), 1e-6)) == form

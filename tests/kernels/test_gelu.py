"""GELU: every form against the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rein_jax.kernels import gelu as module
from rein_jax.kernels.gelu import FORMS, gelu
from tests.kernels.forms import PLATFORMS, hold, picked


@pytest.mark.parametrize("shape", [(5, 7), (1,), (2, 3, 33)])
def test_every_form_is_the_reference(shape):
    hold(FORMS, lambda form, x: form(x), 2 * jax.random.normal(jax.random.key(0), shape))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_every_form_of_half_precision_is_near_the_reference(dtype):
    x = 2 * jax.random.normal(jax.random.key(0), (5, 48), dtype)
    hold(FORMS, lambda form, x: form(x), x, values=2**-8, gradients=2**-8)


@pytest.mark.parametrize("form", FORMS)
def test_far_from_zero_it_is_the_identity_or_zero(form):
    value, slope = jax.vmap(jax.value_and_grad(FORMS[form]))(jnp.asarray([-1e4, -40.0, 0.0, 40.0, 1e4]))
    np.testing.assert_allclose(value, [0, 0, 0, 40, 1e4])
    np.testing.assert_allclose(slope, [0, 0, 0.5, 1, 1])


@pytest.mark.parametrize("platform", PLATFORMS)
def test_which_form_runs_where(monkeypatch, platform):
    assert picked(module, monkeypatch, platform, lambda: gelu(jnp.ones(3))) == "input_only"

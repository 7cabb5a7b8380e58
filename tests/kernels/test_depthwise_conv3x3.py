"""The depthwise convolution: every form against the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rein_jax.kernels import depthwise_conv3x3 as module
from rein_jax.kernels.depthwise_conv3x3 import FORMS, depthwise_conv3x3
from tests.kernels.forms import free_batch, hold, picked

KEYS = jax.random.split(jax.random.key(0), 2)


@pytest.mark.parametrize("shape", [(2, 5, 7, 6), (1, 4, 4, 1), (3, 1, 1, 2)])
def test_every_form_is_the_reference(shape):
    x, kernel = jax.random.normal(KEYS[0], shape), jax.random.normal(KEYS[1], (3, 3, 1, shape[-1]))
    hold(FORMS, lambda form, *a: form(*a), x, kernel)


def test_every_form_of_half_precision_is_near_the_reference():
    x, kernel = (jax.random.normal(key, shape, jnp.bfloat16) for key, shape in zip(KEYS, ((2, 5, 6, 4), (3, 3, 1, 4)), strict=True))
    hold(FORMS, lambda form, *a: form(*a), x, kernel, values=2**-5, gradients=2**-5)


def test_a_free_batch_size():
    x, kernel = jax.random.normal(KEYS[0], (2, 4, 5, 3)), jax.random.normal(KEYS[1], (3, 3, 1, 3))
    for found in free_batch(lambda x: depthwise_conv3x3(x, kernel), x):
        np.testing.assert_allclose(found, FORMS["reference"](x, kernel), atol=1e-5)


@pytest.mark.parametrize("platform, batch, form", [
    ("cpu", 2, "shifts"), ("cpu", "free", "reference"), ("gpu", 2, "reference"), ("tpu", 2, "reference")])
def test_which_form_runs_where(monkeypatch, platform, batch, form):
    batch = jax.export.symbolic_shape("b")[0] if batch == "free" else batch
    x, kernel = jax.ShapeDtypeStruct((batch, 2, 2, 1), jnp.float32), jnp.ones((3, 3, 1, 1))
    assert picked(module, monkeypatch, platform, lambda: depthwise_conv3x3(x, kernel)) == form

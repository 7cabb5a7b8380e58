"""The transposed convolution that doubles a map's sides: every form against the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rein_jax.kernels import conv_transpose2x2 as module
from rein_jax.kernels.conv_transpose2x2 import FORMS, conv_transpose2x2
from tests.kernels.forms import PLATFORMS, free_batch, hold, picked

KEYS = jax.random.split(jax.random.key(0), 2)


@pytest.mark.parametrize("shape, outputs", [((2, 3, 4, 5), 5), ((1, 1, 1, 1), 2), ((2, 5, 3, 4), 3)])
def test_every_form_is_the_reference(shape, outputs):
    x, kernel = jax.random.normal(KEYS[0], shape), jax.random.normal(KEYS[1], (2, 2, shape[-1], outputs))
    hold(FORMS, lambda form, *a: form(*a), x, kernel)
    assert conv_transpose2x2(x, kernel).shape == (shape[0], 2 * shape[1], 2 * shape[2], outputs)


def test_every_form_of_half_precision_is_near_the_reference():
    x, kernel = (jax.random.normal(key, shape, jnp.bfloat16) for key, shape in zip(KEYS, ((2, 3, 4, 4), (2, 2, 4, 3)), strict=True))
    hold(FORMS, lambda form, *a: form(*a), x, kernel, values=2**-6, gradients=2**-5)


def test_a_free_batch_size():
    x, kernel = jax.random.normal(KEYS[0], (2, 4, 5, 3)), jax.random.normal(KEYS[1], (2, 2, 3, 2))
    for found in free_batch(lambda x: conv_transpose2x2(x, kernel), x):
        np.testing.assert_allclose(found, FORMS["reference"](x, kernel), atol=1e-5)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_which_form_runs_where(monkeypatch, platform):
    x, kernel = jnp.ones((1, 2, 2, 1)), jnp.ones((2, 2, 1, 1))
    assert picked(module, monkeypatch, platform, lambda: conv_transpose2x2(x, kernel)) == "product"

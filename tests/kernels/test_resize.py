"""Resizing an axis by a ratio: both forms, and which one runs where. Their values against torch's are in tests/layers."""

import jax
import jax.numpy as jnp
import pytest

from rein_jax.kernels import resize
from rein_jax.kernels.resize import FORMS, resize_by_ratio
from rein_jax.layers.resize import matrix
from tests.kernels.forms import hold, picked


@pytest.mark.parametrize("ratio, inputs", [((4, 1), 3), ((2, 1), 5), ((1, 2), 6), ((1, 2), 7), ((1, 4), 8), ((4, 1), 1)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_form_is_the_reference(ratio, inputs, axis):
    p, q = ratio
    weights = matrix(inputs, inputs * p // q, "bilinear", p / q)
    shape = [3, 4, 5]
    shape[axis] = inputs
    x = jax.random.normal(jax.random.key(0), shape)
    hold(FORMS, lambda form, x: form(x, axis, weights, ratio), x, values=1e-6, gradients=1e-6)


@pytest.mark.parametrize("platform, inputs, form", [("cpu", 2, "slices"), ("gpu", 2, "slices"), ("tpu", 2, "reference"),
                                                    ("tpu", 512, "slices")])
def test_which_form_runs_where(monkeypatch, platform, inputs, form):
    weights = matrix(inputs, 2 * inputs, "bilinear")
    assert picked(resize, monkeypatch, platform, lambda: resize_by_ratio(jnp.zeros((inputs, 2)), 0, weights, (2, 1))) == form

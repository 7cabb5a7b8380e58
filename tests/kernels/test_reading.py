"""Reading maps at given points: every form against the reference, which `test_sampling.py` holds to torch, and which one runs where."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rein_jax.kernels import reading
from rein_jax.kernels.platforms import images_split
from rein_jax.kernels.reading import FORMS, read
from tests.kernels.forms import hold, picked


def _case(lead, count, dtype=jnp.float32):
    maps = jax.random.normal(jax.random.key(0), (*lead, 5, 7), dtype)
    return maps, jax.random.uniform(jax.random.key(1), (*lead, count, 2), minval=-0.3, maxval=1.3)


@pytest.mark.parametrize("lead, count", [((), 3), ((2, 3), 40), ((2,), 300)])
def test_every_form_is_the_reference(lead, count):
    maps, points = _case(lead, count)
    hold(FORMS, lambda form, maps: form(maps, points), maps, values=1e-6, gradients=1e-6)


def test_forms_of_half_precision_are_near_the_reference():
    maps, points = _case((2,), 40, jnp.bfloat16)
    hold(FORMS, lambda form, maps: form(maps, points), maps, values=2**-6, gradients=2**-6)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_can_be_mapped(form):
    maps, points = _case((3,), 9)
    found = jax.jit(jax.vmap(FORMS[form]))(maps, points)
    np.testing.assert_allclose(found, FORMS["reference"](maps, points), atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_far_away_points_read_nothing(form):
    points = jnp.asarray([[1e30, 0.5], [-1e30, 0.5], [jnp.inf, 0.5], [-jnp.inf, -jnp.inf]])
    assert np.all(np.asarray(FORMS[form](jnp.ones((5, 7)), points)) == 0)


def test_points_take_no_gradient():
    assert not jax.grad(lambda points: read(_case((), 3)[0], points).sum())(_case((), 3)[1]).any()


@pytest.mark.parametrize("platform, side, form", [("cpu", 8, "reference"), ("gpu", 8, "reference"), ("tpu", 8, "products"),
                                                  ("tpu", 1024, "reference")])
def test_which_form_runs_where(monkeypatch, platform, side, form):
    chip = SimpleNamespace(devices=np.asarray([SimpleNamespace(device_kind="TPU v5e")]))
    with images_split(chip, ("data",)):
        assert picked(reading, monkeypatch, platform, lambda: read(jnp.zeros((side, side)), jnp.zeros((4, 2)))) == form

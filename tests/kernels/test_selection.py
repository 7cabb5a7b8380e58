"""The k smallest values: every form against NumPy and the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rein_jax.kernels import selection
from rein_jax.kernels.selection import FORMS, bottom_k
from tests.kernels.forms import picked

VALUES = np.round(np.abs(np.random.default_rng(0).normal(size=500)) * 20).astype(np.float32) / 20  # many equal ones


@pytest.mark.parametrize("k", [0, 1, 137, 499, 500])
@pytest.mark.parametrize("kind", ["ties", "infinite", "tiny", "all equal"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_finds_those_that_stand_first(form, kind, k):
    values = {"ties": VALUES, "infinite": np.where(VALUES > 1, np.inf, VALUES), "tiny": VALUES * np.float32(1e-37),
              "all equal": np.full(500, 2.5)}[kind].astype(np.float32)
    found = np.asarray(jax.jit(lambda v: FORMS[form](v, k))(values))
    assert found.shape == (k,) and found.dtype == np.int32
    assert sorted(found.tolist()) == sorted(np.argsort(values, kind="stable")[:k].tolist())


@pytest.mark.parametrize("form", FORMS)
def test_one_value_and_many_rows(form):
    assert FORMS[form](jnp.ones(1), 1).tolist() == [0]
    rows = VALUES.reshape(5, 100)
    found = jax.vmap(lambda v: FORMS[form](v, 7))(rows)
    for ours, row in zip(np.asarray(found), rows, strict=True):
        assert set(ours.tolist()) == set(np.argsort(row, kind="stable")[:7].tolist())


@pytest.mark.parametrize("form", FORMS)
def test_half_precision(form):
    values = jnp.asarray(VALUES, jnp.bfloat16)
    assert set(FORMS[form](values, 40).tolist()) == set(np.argsort(np.asarray(values, np.float32), kind="stable")[:40].tolist())


@pytest.mark.parametrize("platform, form", [("cpu", "bits"), ("gpu", "reference"), ("tpu", "reference")])
def test_which_form_runs_where(monkeypatch, platform, form):
    assert picked(selection, monkeypatch, platform, lambda: bottom_k(VALUES, 3)) == form

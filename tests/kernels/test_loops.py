"""Loops over items: one after the other and all at once are the same function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rein_jax.kernels import loops
from rein_jax.kernels.loops import FORMS, map_bounded, map_items, unroll_convolutions
from rein_jax.kernels.platforms import compiling_for
from tests.kernels.forms import PLATFORMS, close, everywhere, hold, picked

X = jax.random.normal(jax.random.key(0), (5, 3, 4))


@pytest.mark.parametrize("items", [1, 5])
def test_every_form_is_the_reference(items):
    products = lambda form, x, y: form(lambda a, more: jnp.sin(a) @ more["y"], (x, {"y": y}))
    hold(FORMS, products, X[:items], jnp.swapaxes(X, 1, 2)[:items])


@pytest.mark.parametrize("form", FORMS)
def test_trees_and_missing_arguments_pass_through(form):
    found = FORMS[form](lambda x, nothing: {"sum": x.sum(), "nothing": nothing}, (X, None))
    assert found["nothing"] is None
    np.testing.assert_allclose(found["sum"], X.sum((1, 2)), rtol=1e-6)


def test_a_bounded_loop_gives_each_item_what_it_needs():
    """Items may be given the bound of another that is larger: what lies behind their own is theirs to ignore."""
    bound = jnp.asarray([1, 4, 0, 2, 3])

    def filled(x, bound):
        return jax.lax.fori_loop(0, bound, lambda k, out: out.at[k].set(x[0, k] ** 2), jnp.zeros(4))

    kept = lambda x, bound: jnp.where(jnp.arange(4) < bound[:, None], map_bounded(filled, (x,), bound), 0)
    close(everywhere(kept, X, bound))
    for platform in PLATFORMS:
        with compiling_for(platform):
            found = map_bounded(filled, (X,), bound)
        beyond = bound if platform == "cpu" else jnp.full(5, 4)
        np.testing.assert_allclose(found, jnp.where(jnp.arange(4) < beyond[:, None], X[:, 0] ** 2, 0), rtol=1e-6)


@pytest.mark.parametrize("platform, sequential, form", [
    ("cpu", False, "sequential"), ("cpu", True, "sequential"), ("gpu", False, "reference"), ("gpu", True, "sequential"),
    ("tpu", False, "reference"), ("tpu", True, "sequential")])
def test_which_form_runs_where(monkeypatch, platform, sequential, form):
    assert picked(loops, monkeypatch, platform, lambda: map_items(jnp.sin, (X,), sequential=sequential)) == form


@pytest.mark.parametrize("platform, asked, unrolled", [("cpu", False, True), ("gpu", False, False), ("tpu", False, False),
                                                       ("gpu", True, True)])
def test_stacks_of_convolutions_are_written_out_on_a_cpu(platform, asked, unrolled):
    with compiling_for(platform):
        assert unroll_convolutions(asked) == unrolled

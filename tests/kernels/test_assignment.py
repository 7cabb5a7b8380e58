"""Linear sum assignment against SciPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from rein_jax.kernels.assignment import assign, linear_sum_assignment

ASSIGN = jax.jit(assign)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(0, 19), st.sampled_from(["normal", "tied", "huge"]), st.sampled_from([25, 7]))
def test_assignment_costs_what_scipys_costs(seed, count, kind, queries):
    rng, size = np.random.default_rng(seed), (queries, 19)
    cost = {"normal": rng.normal(size=size), "tied": rng.integers(0, 3, size), "huge": rng.normal(size=size) * 1e5}[kind]
    cost = cost.astype(np.float32)
    present = np.zeros(19, bool)
    present[rng.permutation(19)[:count]] = True
    query = np.asarray(ASSIGN(cost, present))
    names = np.flatnonzero(present)
    assert len(set(query[names].tolist())) == count and np.all(query[~present] >= queries)
    rows, columns = optimize.linear_sum_assignment(cost[:, names])
    theirs = cost[:, names][rows, columns].sum()
    names = names[query[names] < queries]
    assert len(names) == len(rows) == min(queries, count)
    assert cost[query[names], names].sum() == pytest.approx(theirs, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("unroll", [1, 3])
def test_a_batch_of_problems_with_different_rows(unroll):
    """Under vmap each problem ends by itself; the turns written out in one go change nothing."""
    rng = np.random.default_rng(0)
    cost, wanted = rng.normal(size=(4, 6, 9)).astype(np.float32), rng.random((4, 6)) < [[0.0], [0.3], [0.7], [1.0]]
    found = np.asarray(jax.jit(jax.vmap(lambda c, w: linear_sum_assignment(c, w, unroll)))(cost, wanted))
    for ours, c, w in zip(found, cost, wanted, strict=True):
        rows, columns = optimize.linear_sum_assignment(c[w])
        assert np.all(ours[~w] == -1) and ours[w].tolist() == columns.tolist() and len(rows) == w.sum()


def test_one_query_and_one_class():
    assert ASSIGN(jnp.ones((1, 1)), jnp.ones(1, bool)).tolist() == [0]
    assert ASSIGN(jnp.ones((1, 1)), jnp.zeros(1, bool)).tolist() == [1]

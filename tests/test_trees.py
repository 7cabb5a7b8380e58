"""Parameters as flat dicts: splitting, merging, rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rein_jax import trees
from rein_jax.errors import UserError


class Small(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Linear(3, 4, rngs=rngs)
        self.parts = nnx.List([nnx.LayerNorm(4, rngs=rngs)])

    def __call__(self, x):
        return (self.parts[0](self.a(x)) * jnp.arange(4)).sum()


@pytest.fixture(scope="module")
def split():
    return trees.split(Small(nnx.Rngs(0)), ("a/",))


def test_split_names_every_array_once(split):
    _, trainable, frozen = split
    assert set(trainable) == {"a/kernel", "a/bias"}
    assert set(frozen) == {"parts/0/scale", "parts/0/bias"}
    assert trees.count({**trainable, **frozen}) == 12 + 4 + 8


def test_merge_gives_the_module_back_under_jit_and_grad(split):
    module_def, trainable, frozen = split
    x = jnp.ones((2, 3))
    loss = jax.jit(lambda t: trees.merge(module_def, t, frozen)(x))
    assert np.allclose(loss(trainable), Small(nnx.Rngs(0))(x))
    assert set(jax.grad(loss)(trainable)) == set(trainable)


def test_merge_refuses_what_does_not_fit(split):
    module_def, trainable, frozen = split
    with pytest.raises(ValueError, match="missing"):
        trees.merge(module_def, trainable)
    with pytest.raises(ValueError, match="twice"):
        trees.merge(module_def, trainable, trainable, frozen)
    with pytest.raises(ValueError, match="unexpected"):
        trees.merge(module_def, trainable, frozen, {"b": jnp.ones(1)})


def test_a_pattern_that_matches_nothing_is_named():
    with pytest.raises(UserError, match="adaptor/"):
        trees.split(Small(nnx.Rngs(0)), ("adaptor/",))


def test_first_match_covers_each_name_by_the_first_rule():
    rules = [(".*bias", 0.0), ("a/", 1.0), (".*", 2.0)]
    assert trees.first_match(rules, ["a/kernel", "a/bias", "b"]) == {"a/kernel": 1.0, "a/bias": 0.0, "b": 2.0}
    with pytest.raises(UserError, match="'b'"):
        trees.first_match(rules[:2], ["a/kernel", "a/bias", "b"])
    with pytest.raises(UserError, match="'c/'"):
        trees.first_match([("c/", 0.0), (".*", 1.0)], ["a"])


def test_table_says_what_trains(split):
    _, trainable, frozen = split
    assert "a/kernel  (3, 4)  float32  trained" in trees.table(trainable, frozen)
    assert "parts/0/bias  (4,)  float32  frozen" in trees.table(trainable, frozen)

"""What an author says about a parameter reaches the optimizer, the dtype policy and the mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

import rein_jax as rj
from rein_jax import optim, sharding, trees
from rein_jax.errors import UserError
from rein_jax.layers.norm import layer_norm
from rein_jax.layers.stack import stacked
from rein_jax.precision import policy


class Own(nnx.Module):
    """An adapter's layer as somebody else writes it."""

    def __init__(self, rngs):
        self.tokens = rj.param(jnp.zeros((8, 4)), decay=False, sharding=P(None, "fsdp"))
        self.factor = trees.param(jnp.ones((2, 4, 4)), exact=True, stacked=1, sharding=P())
        self.twin = trees.Frozen(jnp.ones(4), exact=True)
        self.norm = layer_norm(4, 1e-6, rngs=rngs)
        self.linear = nnx.Linear(4, 4, rngs=rngs)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.one, self.stack = Own(rngs), stacked(Own, 3, rngs)


@pytest.fixture(scope="module")
def split():
    return trees.split(Net(nnx.Rngs(0)), (".*",))


def test_split_reads_and_merge_keeps_them(split):
    module_def, trainable, frozen = split
    wishes = module_def.wishes
    assert wishes["one/tokens"] == trees.Wishes(decay=False, sharding=P(None, "fsdp"))
    assert wishes["stack/tokens"] == trees.Wishes(decay=False, stacked=1, sharding=P(None, None, "fsdp"))
    assert wishes["stack/factor"] == trees.Wishes(exact=True, stacked=2, sharding=P())
    assert wishes["stack/twin"] == trees.Wishes(exact=True, stacked=1)
    assert wishes["one/norm/scale"] == trees.Wishes(decay=False) and wishes["one/linear/bias"] == trees.PLAIN
    merged = trees.merge(module_def, trainable, frozen)
    assert trees.split(merged, (".*",))[0] == module_def and hash(module_def) == hash(trees.split(Net(nnx.Rngs(1)), (".*",))[0])
    assert trees.split(nnx.eval_shape(lambda: Net(nnx.Rngs(0))), ())[0].wishes == wishes
    inside = jax.jit(lambda t: trees.merge(module_def, t, frozen).stack.norm(jnp.ones(4)[None, None]).sum())
    assert jnp.isfinite(inside(trainable))


def test_the_optimizer_honours_decay(split):
    module_def, trainable, _ = split
    groups = optim.assign_groups("rein_512", {name: module_def.wishes[name] for name in trainable})
    assert {name for name, group in groups.items() if not group.decay} == {
        f"{where}/{leaf}" for where in ("one", "stack") for leaf in ("tokens", "norm/scale", "norm/bias")}
    by_hand = optim.assign_groups(((".*tokens", 0.5, 2.0), (".*", 1.0)), module_def.wishes)
    assert by_hand["one/tokens"].decay == 0.5 and by_hand["one/norm/scale"].decay == 1.0


def test_the_policy_honours_exact(split):
    module_def, trainable, frozen = split
    inputs = policy("bf16").inputs({**trainable, **frozen}, module_def.wishes)
    exact = {name for name, array in inputs.items() if array.dtype == np.float32}
    assert exact == {f"{where}/{leaf}" for where in ("one", "stack") for leaf in ("factor", "twin")}


def test_the_mesh_honours_sharding(split, monkeypatch):
    module_def, trainable, _ = split
    monkeypatch.setattr(sharding, "SPLIT_FROM", 1)
    mesh = AbstractMesh((1, 4), sharding.AXES)
    specs = {name: found.spec for name, found in sharding.shard_flat(trainable, mesh, "fsdp", module_def.wishes).items()}
    assert specs["one/tokens"] == P(None, "fsdp") and specs["stack/tokens"] == P(None, None, "fsdp")
    assert specs["one/factor"] == specs["stack/factor"] == P()
    assert specs["stack/linear/kernel"] == P(None, "fsdp") and specs["one/linear/kernel"] == P("fsdp")
    assert sharding.shard_flat(trainable, mesh, [("one/tokens", P("fsdp")), (".*", P())], module_def.wishes)["one/tokens"].spec == P("fsdp")
    of_flax = nnx.get_partition_spec(nnx.state(Net(nnx.Rngs(0))))
    assert of_flax["stack"]["tokens"].get_value() == P(None, None, "fsdp")
    for wish, words in ((P("model"), "names the axis 'model'; a mesh has 'data' and 'fsdp'"), (P(None, None, "fsdp"), "more axes")):
        with pytest.raises(UserError, match=words):
            sharding.shard_flat({"x": jnp.ones((8, 4))}, mesh, "fsdp", {"x": trees.Wishes(sharding=wish)})


@pytest.mark.parametrize("wish, words", [({"decay": 0.5}, "decay=0.5; it must be True or False"), ({"exact": "yes"}, "exact='yes'"),
                                         ({"sharding": "fsdp"}, "sharding='fsdp'; it must be a PartitionSpec"),
                                         ({"stacked": -1}, "stacked=-1; it must be the number of leading axes")])
def test_a_wish_of_another_kind_is_named(wish, words):
    with pytest.raises(UserError, match=words):
        trees.param(jnp.zeros(3), **wish)


@pytest.mark.parametrize("name, rest", [("lora", ()), ("soma", ("_bias", "_bias0")), ("recyclelora", ())])
def test_factors_of_linear_maps_are_exact(name, rest):
    from rein_jax import registry
    from rein_jax.adapters import ADAPTERS
    from rein_jax.adapters.base import BlockSpec

    spec = BlockSpec(2, 48, linears=(("qkv", (48, 144)), ("fc1", (48, 96))))
    adapter = nnx.eval_shape(lambda: registry.load(ADAPTERS, name, "adapter")(spec, rngs=nnx.Rngs(0)))
    wishes = trees.split(adapter, ())[0].wishes
    assert wishes and all(wish.exact for wish in wishes.values())
    assert {wish.decay for key, wish in wishes.items() if not key.endswith("0")} == {name != "recyclelora"}
    assert all(wish.stacked == (1 if key.endswith(rest) and rest else 2) for key, wish in wishes.items())

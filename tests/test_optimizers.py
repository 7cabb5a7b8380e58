"""Optimizers and schedules by name against optax's own, and the optimizer for stock Flax loops against the trainer's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from data_pipelines.labels import CITYSCAPES
from rein_jax import build, optim, optimizer, trainable, trees
from rein_jax.errors import UserError
from rein_jax.layers.stack import stacked
from tests.use.tiny import tiny_config

STACK = {"w": trees.Wishes(), "stack": trees.Wishes(stacked=1), "bias": trees.Wishes(decay=False)}
AS_SAID = {"lr": 0.1, "weight_decay": 0.0, "schedule": "constant", "groups": None, "steps": 10}


def numbers(seed=0):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in
            (("w", (4, 6)), ("stack", (3, 4, 6)), ("bias", (6,)))}


def two_steps(tx, params, grads):
    state, update = tx.init(params), jax.jit(tx.update)
    for _ in range(2):
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


def per_layer(arrays):
    """The same numbers with the stack's layers as parameters of their own."""
    return {**{f"stack{i}": arrays["stack"][i] for i in range(3)}, "w": arrays["w"], "bias": arrays["bias"]}


@pytest.mark.parametrize("name, options, theirs", [
    ("adamw", {}, optax.adamw(0.1, weight_decay=0.0)),
    ("adam", {"betas": (0.8, 0.9)}, optax.adam(0.1, 0.8, 0.9)),
    ("lion", {}, optax.lion(0.1, weight_decay=0.0)),
    ("sgd", {}, optax.sgd(0.1, 0.9)),
    ("sgd", {"momentum": 0.0}, optax.sgd(0.1)),
    ("lamb", {"weight_decay": 0.3, "groups": ((".*", 1.0),)}, optax.lamb(0.1, weight_decay=0.3)),
    ("muon", {}, optax.contrib.muon(0.1, consistent_rms=0.2)),
    ("muon", {"weight_decay": 0.3, "momentum": 0.8, "groups": ((".*", 1.0),)},
     optax.contrib.muon(0.1, beta=0.8, weight_decay=0.3, adam_weight_decay=0.3, consistent_rms=0.2)),
])
def test_two_steps_equal_optax(name, options, theirs):
    """Layers of a stack move as they would by themselves."""
    tx, _ = optim.make_optimizer({**AS_SAID, "name": name, **options}, numbers(), STACK)
    ours = per_layer(two_steps(tx, numbers(), numbers(1)))
    want = two_steps(theirs, per_layer(numbers()), per_layer(numbers(1)))
    for key in want:
        np.testing.assert_allclose(ours[key], want[key], rtol=1e-5, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("name", [n for n in optim.OPTIMIZERS if n != "lamb"])
def test_groups_and_decay_of_every_optimizer(name):
    """Decay is apart from the gradient: times the learning rate, by group; a factor holds for both."""
    def updates(**options):
        tx, _ = optim.make_optimizer({**AS_SAID, "name": name, **options}, params, STACK)
        return tx.update(numbers(1), tx.init(params), params)[0]

    params = numbers()
    plain = updates()
    decayed, by_rows = updates(weight_decay=0.5), updates(weight_decay=0.5, groups=(("bias", None, 3.0), ("w", 0.0), (".*", 2.0)))
    for key, said in (("w", 1), ("stack", 1), ("bias", 0)):
        np.testing.assert_allclose(decayed[key], plain[key] - 0.1 * 0.5 * said * params[key], atol=1e-6, err_msg=key)
    np.testing.assert_allclose(by_rows["bias"], 3 * plain["bias"], atol=1e-6)
    np.testing.assert_array_equal(by_rows["w"], plain["w"])
    np.testing.assert_allclose(by_rows["stack"], plain["stack"] - 0.1 * params["stack"], atol=1e-6)


def test_decay_falls_to_decay_end():
    config = {**AS_SAID, "name": "sgd", "lr": 1.0, "weight_decay": 0.5, "decay_end": 0.1, "steps": 4}
    params, none = {"w": jnp.ones(3)}, {"w": jnp.zeros(3)}
    tx, _ = optim.make_optimizer(config, params)
    state = tx.init(params)
    for step in range(4):
        updates, state = tx.update(none, state, params)
        np.testing.assert_allclose(updates["w"], -(0.1 + 0.4 * (1 + np.cos(np.pi * step / 4)) / 2), rtol=1e-6)


@pytest.mark.parametrize("part", ["w", "bias"])
def test_muon_takes_matrices_alone_and_vectors_alone(part):
    arrays, grads = {part: numbers()[part]}, {part: numbers(1)[part]}
    tx, _ = optim.make_optimizer({**AS_SAID, "name": "muon"}, arrays)
    assert jnp.isfinite(two_steps(tx, arrays, grads)[part]).all()


def test_lamb_weighs_the_decay_too():
    params = numbers()
    tx, _ = optim.make_optimizer({**AS_SAID, "name": "lamb", "weight_decay": 0.5}, params, STACK)
    moved = tx.update(numbers(1), tx.init(params), params)[0]["w"]
    assert float(jnp.linalg.norm(moved)) == pytest.approx(0.1 * float(jnp.linalg.norm(params["w"])), rel=1e-5)


@pytest.mark.parametrize("schedule, share", [
    ("poly", lambda left: left**0.9), ("linear", lambda left: left), ("constant", lambda left: 1 + 0 * left),
    ("cosine", lambda left: (1 - np.cos(np.pi * left)) / 2),
])
def test_schedules(schedule, share):
    config = {"steps": 21, "lr": 2.0, "lr_end": 0.5, "warmup_steps": 10, "warmup_factor": 0.1, "schedule": schedule, "groups": None}
    _, rate = optim.make_optimizer(config, numbers())
    steps = np.arange(21)
    want = np.where(steps < 10, 2.0 * (0.1 + 0.9 * steps / 9), 0.5 + 1.5 * share(np.clip((20 - steps) / 10, 0, 1)))
    np.testing.assert_allclose(jax.jit(rate)(steps), want, rtol=1e-6)
    _, staged = optim.make_optimizer({**config, "backbone_warmup": 5}, numbers())
    np.testing.assert_allclose(staged(15), 2.0 * share(6 / 11), rtol=1e-6)


@pytest.mark.parametrize("config, words", [
    ({"name": "adamww"}, "Unknown optim.name 'adamww'.*Did you mean 'adamw'.*Known: adam, adamw, lamb, lion, muon, sgd"),
    ({"schedule": "step"}, "Unknown optim.schedule 'step'.*Known: constant, cosine, linear, poly"),
    ({"name": "lion", "momentum": 0.5}, "optim.momentum belongs to muon, sgd, not to optim.name=lion"),
    ({"name": "sgd", "eps": 1e-3}, "optim.eps belongs to adam, adamw, lamb, muon, not to optim.name=sgd"),
    ({"name": "sgd", "momentum": -1.0}, "optim.momentum is -1.0"),
])
def test_mistakes_are_one_sentence(config, words):
    with pytest.raises(UserError, match=words):
        optim.make_optimizer({**AS_SAID, **config}, numbers())


def test_a_transformation_of_ones_own_is_used_as_it_is():
    own = optax.sgd(0.3)
    assert optim.make_optimizer({"name": own}, numbers(), steps=10) == (own, None)
    tx, rate = optim.make_optimizer({"name": own, "schedule": "constant", "lr": 0.3}, numbers(), steps=10)
    assert tx is own and float(rate(5)) == pytest.approx(0.3)


class Layer(nnx.Module):
    def __init__(self, rngs):
        self.tokens = trees.param(jax.random.normal(rngs.params(), (4, 3)), decay=False)
        self.linear = nnx.Linear(3, 3, rngs=rngs)


class Factor(nnx.Module):
    def __init__(self, i):
        self.factor = nnx.Param(jnp.full(3, 1 + 0.1 * i))


class Net(nnx.Module):
    """backbone/... frozen, adapters/0/... (a stack) and head/... trained; more than ten in a list: numbers and names sort apart."""

    def __init__(self, rngs):
        self.backbone = nnx.Linear(3, 3, rngs=rngs)
        self.adapters = nnx.List([stacked(Layer, 2, rngs)])
        self.head = nnx.List([Factor(i) for i in range(11)])

    def __call__(self, x):
        x = self.backbone(x)
        layer = self.adapters[0]
        x = x + jnp.einsum("lij,lkj->ik", layer.tokens[...], layer.linear.kernel[...]) + layer.linear.bias[...].sum(0)
        for layer in self.head:
            x = x * layer.factor[...]
        return (x**2).mean()


def trained(path, value):
    return isinstance(value, nnx.Param) and path[0] in ("adapters", "head")


@pytest.mark.parametrize("name", ["lamb", "muon"])
def test_the_optimizer_of_stock_loops_makes_the_trainers_steps(name):
    options = {"lr": 0.01, "clip": 0.5, "adapter_lr": 3.0, "groups": (("head/1/", 2.0), (".*", None))}
    model = Net(nnx.Rngs(0))
    gradients = nnx.jit(nnx.grad(lambda model: model(jnp.ones((4, 3))), argnums=nnx.DiffState(0, trained)))
    module_def, arrays, frozen = trees.split(model, ("adapters/", "head/"))
    flat, _ = optim.make_optimizer({"name": name, **options}, arrays, module_def.wishes, steps=5)
    state = flat.init(arrays)
    stock = nnx.Optimizer(model, optimizer(model, trained, name, steps=5, **options), wrt=trained)
    before = trees.flatten(model)
    for _ in range(2):
        grads = gradients(model)
        updates, state = flat.update({trees.name_of(path): g[...] for path, g in nnx.to_flat_state(grads)}, state, arrays)
        arrays = optax.apply_updates(arrays, updates)
        stock.update(model, grads)
        after = trees.flatten(model)
        for key in arrays:
            np.testing.assert_array_equal(after[key], arrays[key], key)
            assert not np.array_equal(after[key], before[key]), key
        assert all(np.array_equal(after[key], before[key]) for key in frozen)


def test_one_update_of_a_segmenter_equals_the_trainers():
    config, which = tiny_config("rein"), trainable("adapters/", "head/")
    module_def, *shapes = build.abstract_params(config, CITYSCAPES)
    rng = np.random.default_rng(0)
    drawn = lambda shapes: {name: jnp.asarray(rng.normal(size=shape.shape), jnp.float32) for name, shape in shapes.items()}
    arrays, frozen, grads = (drawn(part) for part in (*shapes, shapes[0]))
    model = trees.merge(module_def, arrays, frozen)
    tx, _ = optim.make_optimizer(config.optim, arrays, module_def.wishes, steps=10)
    want = tx.update(grads, tx.init(arrays), arrays)[0]
    stock = nnx.Optimizer(model, optimizer(model, which, steps=10), wrt=which)
    paths = nnx.to_flat_state(nnx.state(model, which))
    found = stock.update(model, nnx.from_flat_state([(path, nnx.Param(grads[trees.name_of(path)])) for path, _ in paths]))
    found = {trees.name_of(path): update for path, update in nnx.to_flat_state(found)}
    assert found.keys() == want.keys()
    for name in want:
        np.testing.assert_array_equal(found[name], want[name], name)


def test_mistakes_of_stock_loops_are_named():
    model = Net(nnx.Rngs(0))
    with pytest.raises(UserError, match="steps="):
        optimizer(model, trained)
    with pytest.raises(UserError, match="matches no parameter"):
        optimizer(model, nnx.BatchStat, steps=5)
    with pytest.raises(UserError, match="Did you mean 'warmup_steps'"):
        optimizer(model, trained, steps=5, warm_up_steps=2)
    assert optimizer(model, trained, "sgd", schedule="constant").init(nnx.state(model, trained))

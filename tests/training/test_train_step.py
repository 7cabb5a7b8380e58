"""The jitted step: what it changes, what it leaves alone, and what it does with numbers that are not finite."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from stand_in import make_components

from rein_jax import trees
from rein_jax.precision import policy
from rein_jax.sharding import make_mesh, place_batch
from rein_jax.training.state import place_run
from rein_jax.training.step import batch_structs, make_step

CONFIG = {"seed": 0, "train": {"steps": 10, "batch": 4}}


@functools.cache
def program(precision="fp32", accumulate=1, ema=0.0, ema_start=0, augment=None):
    """(mesh, shardings, compiled once per module) of the stand-in's step."""
    components, mesh = make_components(CONFIG), make_mesh()
    sharded = place_run(components.trainable, components.frozen, components.tx, policy(precision), mesh, "dp", ema > 0,
                        wishes=components.module_def.wishes)
    return mesh, make_step(components.module_def, components.tx, policy(precision), mesh, sharded.shardings, schedule=components.schedule,
                           accumulate=accumulate, ema=ema, ema_start=ema_start, augment=augment)


class Bench:
    """A sharded stand-in run on one device."""

    def __init__(self, precision="fp32", bad=(), **options):
        self.components = make_components(CONFIG, bad=bad)
        self.mesh, self.step = program(precision, **options)
        self.sharded = place_run(self.components.trainable, self.components.frozen, self.components.tx, policy(precision), self.mesh, "dp",
                                options.get("ema", 0.0) > 0, wishes=self.components.module_def.wishes)
        self.batches = self.components.batches(0, 0, 1)

    def go(self, **more):
        batch = {**next(self.batches), **more}
        batch.pop("name")
        self.sharded.state, metrics = self.step(self.sharded.state, self.sharded.frozen, place_batch(batch, self.mesh))
        return {name: float(value) for name, value in metrics.items()}

    def weights(self):
        return {name: np.asarray(a) for name, a in self.sharded.state.trainable.items()}


def test_step_equals_plain_optax():
    bench = Bench()
    components = make_components(CONFIG)
    trainable, opt_state = components.trainable, components.tx.init(components.trainable)

    batches = components.batches(0, 0, 1)
    gradients = jax.jit(jax.value_and_grad(lambda t, b, k: trees.merge(components.module_def, t, components.frozen).loss(b, k)[0]))
    for number in range(3):
        metrics = bench.go()
        batch = {k: v for k, v in next(batches).items() if k != "name"}
        key = jax.random.split(jax.random.fold_in(jax.random.key(0), number))[1]
        loss, grads = gradients(trainable, batch, key)
        updates, opt_state = components.tx.update(grads, opt_state, trainable)
        trainable = optax.apply_updates(trainable, updates)
        np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-6)
        np.testing.assert_allclose(metrics["grad_norm"], optax.tree.norm(grads), rtol=1e-5)
        np.testing.assert_allclose(metrics["lr"], components.schedule(number), rtol=1e-6)
    for name, value in bench.weights().items():
        np.testing.assert_allclose(value, trainable[name], rtol=1e-5, atol=1e-7)


def test_frozen_leaves_stay_and_only_trainable_ones_have_moments():
    bench = Bench()
    before = {name: np.array(a) for name, a in bench.sharded.frozen.items()}
    bench.go()
    assert all(np.array_equal(before[name], a) for name, a in bench.sharded.frozen.items())
    assert set(bench.sharded.state.opt_state[0].mu) == set(bench.sharded.state.trainable) == {"head/bias", "head/kernel"}


def test_the_seed_is_an_argument_of_one_program():
    losses = []
    for seed in (None, 0, 1):
        bench = Bench()
        batch = {name: array for name, array in next(bench.batches).items() if name != "name"}
        key = () if seed is None else (jax.random.key_data(jax.random.key(seed)),)
        losses.append(float(bench.step(bench.sharded.state, bench.sharded.frozen, place_batch(batch, bench.mesh), *key)[1]["loss"]))
    assert losses[0] == losses[1] != losses[2]  # the stand-in has dropout


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_that_is_not_finite_changes_nothing_but_the_counters(accumulate):
    bench = Bench(bad=(1, 2), accumulate=accumulate, ema=0.9)
    assert bench.go()["finite"] == 1
    before, ema = bench.weights(), {n: np.array(a) for n, a in bench.sharded.state.ema.items()}
    moments = jax.tree.map(np.array, bench.sharded.state.opt_state)
    for row in (1, 2):
        metrics = bench.go()
        assert (metrics["finite"], metrics["row"]) == (0, row)
    assert all(np.array_equal(before[n], a) for n, a in bench.weights().items())
    assert all(np.array_equal(ema[n], a) for n, a in bench.sharded.state.ema.items())
    assert jax.tree.all(jax.tree.map(np.array_equal, moments, bench.sharded.state.opt_state))
    assert bench.go()["row"] == 0
    assert (int(bench.sharded.state.step), int(bench.sharded.state.skipped)) == (4, 2)
    assert bench.go()["lr"] == pytest.approx(float(bench.components.schedule(2)))


def test_moving_average_follows_the_weights():
    bench = Bench(ema=0.5)
    expected = {n: np.array(a) for n, a in bench.sharded.state.ema.items()}
    for number in range(3):
        bench.go()
        rate = min(0.5, (1 + number) / (10 + number))
        expected = {n: rate * old + (1 - rate) * bench.weights()[n] for n, old in expected.items()}
    for name, value in expected.items():
        np.testing.assert_allclose(bench.sharded.state.ema[name], value, rtol=1e-5, atol=1e-7)


def test_moving_average_that_begins_later_is_the_weights_until_then():
    bench = Bench(ema=0.5, ema_start=2)
    for number in range(4):
        before = {n: np.array(a) for n, a in bench.sharded.state.ema.items()}
        bench.go()
        for name, value in bench.weights().items():
            expected = value if number < 2 else 0.5 * before[name] + 0.5 * value
            np.testing.assert_allclose(bench.sharded.state.ema[name], expected, rtol=1e-6)


def test_bf16_keeps_the_master_and_moments_in_fp32():
    bench = Bench("bf16")
    assert {a.dtype for a in bench.sharded.frozen.values()} == {jnp.dtype(jnp.bfloat16)}
    metrics = bench.go()
    state = bench.sharded.state
    assert {a.dtype for a in (*state.trainable.values(), *state.opt_state[0].mu.values())} == {jnp.dtype(jnp.float32)}
    assert metrics["loss"] == pytest.approx(Bench().go()["loss"], rel=0.05)


def test_augment_sees_the_loss_and_may_double_the_batch():
    def augment(batch, key, loss_fn):
        scale = jax.grad(lambda s: loss_fn({**batch, "image": batch["image"].astype(jnp.float32) * s}))(1.0)
        harder = batch["image"].astype(jnp.float32) * (1 + 0.01 * jnp.sign(scale))
        return {"image": jnp.concatenate([batch["image"].astype(jnp.float32), harder]),
                "label": jnp.concatenate([batch["label"]] * 2), "size": jnp.concatenate([batch["size"]] * 2)}

    plain, doubled = Bench().go(), Bench(augment=augment).go()
    assert np.isfinite(doubled["loss"]) and doubled["loss"] != plain["loss"]


def test_stop_is_the_maximum_over_the_batch_and_no_input_of_the_model():
    bench = Bench()
    assert bench.go(stop=np.array([0, 0, 1, 0], np.int32))["stop"] == 1
    assert bench.go(stop=np.zeros(4, np.int32))["stop"] == 0


def test_placing_never_aliases_the_callers_arrays():
    bench = Bench()
    bench.go()  # donates the state
    assert all(np.isfinite(np.asarray(a)).all() for a in bench.components.trainable.values())


def test_without_a_schedule_no_learning_rate_is_reported():
    parts, mesh = make_components(CONFIG), make_mesh()
    sharded = place_run(parts.trainable, parts.frozen, parts.tx, policy("fp32"), mesh, "dp", wishes=parts.module_def.wishes)
    step = make_step(parts.module_def, parts.tx, policy("fp32"), mesh, sharded.shardings)
    _, metrics = jax.eval_shape(step, sharded.state, sharded.frozen, batch_structs(CONFIG["train"]["batch"], parts.crop, mesh))
    assert "loss" in metrics and "lr" not in metrics

"""Matching and mask loss against the official code, SciPy, and what a user expects at the edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from rein_jax import trees
from rein_jax.errors import UserError
from rein_jax.heads.mask2former import RULES
from rein_jax.losses.mask_loss import MaskLoss
from rein_jax.losses.match_costs import LIMIT
from rein_jax.weight_rules import unplace
from tests.heads.official import error, loaded, maps_of, official_draws, sampled, truths
from tests.kernels.forms import close, everywhere

CASES = {"head_small_loss": (256, 4242), "head_small_loss_one_empty": (128, 4243)}


@pytest.fixture(scope="module")
def head(fixture_case):
    """(module_def, parameters, maps, queries, outputs) of the official small head."""
    inputs = fixture_case("head_small", "inputs")
    module_def, params = loaded(fixture_case("head_small", "weights"))
    maps, queries = maps_of(inputs), jnp.asarray(inputs["queries"])
    outputs = jax.jit(lambda params: trees.merge(module_def, params).head(maps, queries))(params)
    return module_def, params, maps, queries, outputs


def _given(case: str, fixture_case):
    """(expected, label, loss, draws) of an official case."""
    points, seed = CASES[case]
    want = fixture_case(case, "outputs")
    label = np.stack([want["gt_img0"], want["gt_img1"]])
    return want, jnp.asarray(label), MaskLoss(19, points=points), official_draws(np.random.RandomState(seed), truths(label), points)


@pytest.fixture(scope="module", params=list(CASES))
def official(request, head, fixture_case):
    """(expected, total, terms, costs, slots, chosen points of the last prediction) of one official case."""
    want, label, loss, draws = _given(request.param, fixture_case)

    @jax.jit
    def run(outputs):
        total, terms = loss(outputs, label, draws=draws)
        costs, slots = loss.match(outputs, label, draws)
        masks = outputs["mask"][-1, 0][slots.query[-1, 0]]
        points = jax.vmap(loss.select_points, in_axes=(0, None, 0, 0))(masks, label[0], draws.candidates[-1, 0], draws.fresh[-1, 0])
        return total, terms, costs, slots, points

    return want, *run(head[-1])


def test_all_thirty_terms_equal_the_original(official):
    want, total, terms, *_ = official
    assert total == pytest.approx(float(want["loss_total"][0]), rel=1e-5)
    assert len(terms) == 30
    for name, value in terms.items():
        assert value == pytest.approx(float(want[f"loss:{name}"].reshape(-1)[0]), rel=1e-5), name


def test_costs_and_matching_equal_the_original(official):
    want, _, _, costs, slots, _ = official
    for p in range(10):
        for b in range(2):
            labels = want[f"gt_labels_img{b}"]
            assigned = np.zeros(20, int)
            for query, name, valid in zip(*(np.asarray(a[p, b]) for a in slots), strict=True):
                if valid:
                    assigned[query] = np.flatnonzero(labels == name)[0] + 1
            assert np.array_equal(assigned, want[f"assigned_gt_inds_layer{p}_img{b}"])
            for part in ("cls", "mask", "dice") if len(labels) else ():
                got = np.asarray(getattr(costs, part)[p, b])[:, labels]
                assert error(got, want[f"cost_{part}_layer{p}_img{b}"]) <= 1e-5, (part, p, b)


def test_uncertain_points_are_the_originals(official):
    want, *_, slots, points = official
    count = int(np.asarray(slots.valid[-1, 0]).sum())
    expected = want["points_layer9"][:count]  # masks of the first image stand first
    for ours, theirs in zip(np.asarray(points)[:count], expected, strict=True):
        assert {tuple(p) for p in ours.tolist()} == {tuple(p) for p in theirs.tolist()}


@pytest.mark.slow  # the training trajectory compares first gradients on every run
def test_gradients_equal_the_original(head, fixture_case):
    module_def, params, maps, queries, _ = head
    want, label, loss, draws = _given("head_small_loss", fixture_case)
    total = lambda params: loss(trees.merge(module_def, params).head(maps, queries), label, draws=draws)[0]
    grads = jax.jit(jax.grad(total))(params)
    back, left = unplace(RULES, {name: np.asarray(grad) for name, grad in grads.items()})
    assert not left and len(back) == 228
    for name, grad in back.items():
        expected = want["grad:" + name.removeprefix("decode_head.")]
        assert np.abs(sampled(grad) - expected).max() <= 5e-5 * np.abs(grad).max(), name


def _outputs(batch=2, queries=20, classes=19, size=8, predictions=2, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return {"cls": jnp.asarray(scale * rng.normal(size=(predictions, batch, queries, classes + 1)), jnp.float32),
            "mask": jnp.asarray(scale * rng.normal(size=(predictions, batch, queries, size, size)), jnp.float32)}


def _label(batch=2, size=32, classes=19, seed=1):
    return jnp.asarray(np.random.default_rng(seed).integers(0, classes, (batch, size // 8, size // 8)).repeat(8, 1).repeat(8, 2))


LOSS = MaskLoss(19, points=64)
RUN = jax.jit(jax.value_and_grad(lambda outputs, label, key: LOSS(outputs, label, key)[0]))


def test_every_kind_of_crop_runs_in_one_program():
    programs = set()
    for crop, label in {"nothing": jnp.full((2, 32, 32), 255), "one class": jnp.full((2, 32, 32), 3),
                        "every class": jnp.asarray(np.arange(2 * 32 * 32).reshape(2, 32, 32) % 19)}.items():
        total, grads = RUN(_outputs(), label.astype(jnp.int32), jax.random.key(0))
        assert np.isfinite(total) and all(np.isfinite(g).all() for g in grads.values()), crop
        assert np.any(np.asarray(grads["mask"]) != 0) == (crop != "nothing")
        programs.add(RUN._cache_size())
    assert len(programs) == 1  # the number of classes in a crop never recompiles


@pytest.mark.parametrize("value", [1e4, -1e4])
def test_huge_logits_are_finite(value):
    outputs = {name: jnp.sign(array) * value for name, array in _outputs().items()}
    total, grads = RUN(outputs, _label().astype(jnp.int32), jax.random.key(0))
    assert np.isfinite(total) and all(np.isfinite(g).all() for g in grads.values())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_matching_ends_and_is_one_to_one_whatever_the_logits(value):
    outputs = _outputs()
    outputs = {"cls": outputs["cls"].at[0, 0, 3].set(value), "mask": outputs["mask"].at[0, 0, :5].set(value)}
    draws = LOSS.draw(jax.random.key(0), 2, 2)
    costs, slots = jax.jit(LOSS.match)(outputs, _label().astype(jnp.int32), draws)
    assert np.abs(jax.vmap(jax.vmap(lambda c: c.total()))(costs)).max() <= LIMIT
    for query, valid in zip(np.asarray(slots.query).reshape(-1, 19), np.asarray(slots.valid).reshape(-1, 19), strict=True):
        assert valid.any() and len(set(query[valid].tolist())) == valid.sum()


def test_fewer_queries_than_classes_answer_for_the_cheapest():
    outputs, label = _outputs(queries=5), _label(size=64)
    draws = LOSS.draw(jax.random.key(0), 2, 2)
    costs, slots = jax.jit(LOSS.match)(outputs, label, draws)
    total = np.asarray(jax.vmap(jax.vmap(lambda c: c.total()))(costs))
    for p, b in np.ndindex(2, 2):
        names = np.unique(label[b])
        rows, columns = linear_sum_assignment(total[p, b][:, names])
        valid = np.asarray(slots.valid[p, b])
        assert len(names) > 5 and valid[:5].all() and not valid[5:].any()
        assert np.array_equal(slots.query[p, b][:5], rows) and np.array_equal(slots.label[p, b][:5], names[columns])
    value, grads = RUN(outputs, label, jax.random.key(0))
    assert np.isfinite(value) and all(np.isfinite(g).all() and np.any(g) for g in grads.values())


def test_what_each_treatment_of_void_does():
    """Logits deep inside a void region move the original's loss; with `ignore_void` they cannot."""
    label = np.array(_label(batch=1))
    label[:, :, 16:] = 255  # the right half; logits have a quarter of the resolution: columns 4..7, the border reads 3 and 4
    outputs = _outputs(batch=1)
    changed = {**outputs, "mask": outputs["mask"].at[..., 5:].multiply(-3.0)}
    for ignore_void in (False, True):
        loss = MaskLoss(19, points=64, ignore_void=ignore_void)
        run = jax.jit(lambda outputs: loss(outputs, jnp.asarray(label), jax.random.key(0))[1])  # noqa: B023
        before, after = run(outputs), run(changed)
        same = {name: float(before[name]) == float(after[name]) for name in before}
        assert all(same.values()) if ignore_void else not any(same[n] for n in ("loss_mask", "loss_dice", "d0.loss_mask"))


def test_void_points_have_no_gradient_and_void_labels_are_the_same_as_ignored():
    label = np.array(_label(batch=1))
    label[:, :, 16:] = 255
    loss = MaskLoss(19, points=64, ignore_void=True)
    outputs = _outputs(batch=1)
    grad = jax.jit(jax.grad(lambda m: loss({**outputs, "mask": m}, jnp.asarray(label), jax.random.key(0))[0]))(outputs["mask"])
    assert np.all(np.asarray(grad)[..., 5:] == 0) and np.any(np.asarray(grad)[..., :4] != 0)


def test_shards_average_as_data_parallel_processes_would():
    """Each shard alone, with the number of masks averaged over both, gives the two-shard loss as a mean."""
    outputs, label = _outputs(batch=4), np.array(_label(batch=4))
    label[2:] = 7
    label = jnp.asarray(label)
    whole = MaskLoss(19, points=64, shards=2)
    draws = whole.draw(jax.random.key(0), 2, 4)
    _, terms = jax.jit(lambda *args: whole(*args[:2], draws=args[2]))(outputs, label, draws)
    counts = [sum(len(np.unique(one)) for one in np.asarray(label[i:i + 2])) for i in (0, 2)]
    one = jax.jit(lambda outputs, label, draws: LOSS(outputs, label, draws=draws)[1])
    alone = [one({n: a[:, i:i + 2] for n, a in outputs.items()}, label[i:i + 2], jax.tree.map(lambda a: a[:, i:i + 2], draws))  # noqa: B023
             for i in (0, 2)]
    for name, value in terms.items():
        factors = [1.0, 1.0] if "cls" in name else [count / np.mean(counts) for count in counts]
        assert value == pytest.approx(np.mean([f * float(t[name]) for f, t in zip(factors, alone, strict=True)]), rel=1e-5)


def test_every_platform_gives_the_same_loss_and_gradient():
    keys = jax.random.split(jax.random.key(0), 4)
    loss = MaskLoss(5, points=96)
    outputs = {"cls": jax.random.normal(keys[0], (3, 2, 8, 6)), "mask": 4 * jax.random.normal(keys[1], (3, 2, 8, 12, 16))}
    label = jnp.repeat(jnp.repeat(jax.random.randint(keys[2], (2, 6, 8), 0, 4), 8, 1), 8, 2)
    close(everywhere(jax.value_and_grad(lambda o: loss(o, label, keys[3])[0]), outputs))


@pytest.mark.slow
def test_one_prediction_after_the_other_is_the_same():
    draws = LOSS.draw(jax.random.key(2), 2, 2)
    outputs, label = _outputs(), _label()
    frugal = MaskLoss(19, points=64, by_prediction=True)
    totals = [jax.jit(jax.value_and_grad(lambda o: loss(o, label, draws=draws)[0]))(outputs) for loss in (LOSS, frugal)]  # noqa: B023
    assert totals[0][0] == pytest.approx(float(totals[1][0]), rel=1e-6)
    np.testing.assert_allclose(totals[0][1]["mask"], totals[1][1]["mask"], atol=1e-6)


def test_mistakes_are_named():
    with pytest.raises(UserError, match="shards"):
        MaskLoss(19, points=8, shards=3)(_outputs(), _label(), jax.random.key(0))
    with pytest.raises(UserError, match="loss.importance"):
        MaskLoss(19, importance=2.0)

"""Schedules, parameter groups and AdamW against the published recipes and torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rein_jax import optim
from rein_jax.errors import UserError

NAMES = ["backbone/blocks/norm1/scale", "backbone/blocks/mlp/ffn_ln/bias", "backbone/ln_pre/scale", "backbone/layers/0/bn1/bias",
         "backbone/blocks/attn/qkv/bias", "backbone/pos_embed", "adapters/0/layers/tokens_a",
         "adapters/0/scale", "adapters/0/merge/kernel", "head/level_embed", "head/pixel_decoder/level_encoding",
         "head/query_embed", "head/query_feat", "head/post_norm/bias", "head/cls_embed/bias"]


@pytest.mark.parametrize("recipe, options", [
    ("rein_512", {"lr": 1e-4, "steps": 40_000}),
    ("rein_1024", {"lr": 6e-5, "steps": 40_000, "warmup_steps": 10_000, "warmup_factor": 1e-6}),
    ("schedule_40k", {"lr": 1e-4, "steps": 40_000, "warmup_steps": 1_000, "warmup_factor": 1e-6}),
    ("poly_end20", {"lr": 1e-4, "steps": 20}),
])
def test_learning_rates_equal_the_originals(fixture_case, recipe, options):
    want = fixture_case("schedules", "outputs")
    at = np.arange(24) if recipe == "poly_end20" else want["at_iter"]
    options = dict(options)
    rate = optim.poly_schedule(options.pop("lr"), options.pop("steps"), **options)
    np.testing.assert_allclose(jax.jit(rate)(jnp.asarray(at)), want[recipe], rtol=2e-6, atol=0)


def _undecayed(preset, names=NAMES):
    return {name for name, group in optim.assign_groups(preset, names).items() if group.decay == 0}


def test_presets_decay_what_the_original_decays():
    norms = {"head/post_norm/bias", *(f"backbone/{n}" for n in ("blocks/norm1/scale", "blocks/mlp/ffn_ln/bias", "ln_pre/scale",
                                                                "layers/0/bn1/bias"))}
    embeds = {"head/level_embed", "head/query_embed"}
    rein = {"adapters/0/layers/tokens_a", "adapters/0/scale"}
    assert _undecayed("rein_512") == _undecayed("rein_1024") == norms | embeds | rein
    assert _undecayed("rein_cnn") == norms | embeds | rein - {"adapters/0/scale"}
    assert _undecayed("full_512") == _undecayed("full_paper") == norms | embeds
    assert _undecayed("soma") == norms | embeds | {"head/query_feat"}
    assert _undecayed("frozen_512") == norms | embeds | {"head/query_feat"}


def test_backbone_factors():
    groups = optim.assign_groups("full_paper", NAMES)
    assert {n for n, g in groups.items() if g.lr == 0.1} == {n for n in NAMES if n.startswith("backbone/")}
    groups = optim.assign_groups("soma", NAMES)
    assert {n for n, g in groups.items() if g.lr == 0.5} == {n for n in NAMES if not n.startswith("head/")}
    factors = [f"adapters/0/layers/qkv_{part}_{which}" for part in ("main", "sub") for which in "ab"]
    groups = optim.assign_groups("recyclelora", [*factors, "head/query_feat", "head/class_embed/kernel"])
    assert [groups[name].lr for name in factors] == [1, 1, 0.5, 0.5] and not any(groups[name].decay for name in factors)
    assert groups["head/query_feat"].decay == 0 and groups["head/class_embed/kernel"].decay == 1


def test_backbone_lr_and_adapter_lr_are_factors_on_the_groups():
    arrays = {name: jnp.ones(3) for name in NAMES}
    grads = {name: jnp.full(3, 0.3) for name in NAMES}
    updates = []
    for more in ({"groups": "full_paper"}, {"groups": "full_512", "backbone_lr": 0.1}):
        tx, _ = optim.make_optimizer(more, arrays, steps=10)
        updates.append(tx.update(grads, tx.init(arrays), arrays)[0])
    for name in NAMES:
        np.testing.assert_array_equal(updates[0][name], updates[1][name], name)
    makers = [optim.make_optimizer({"groups": "rein_512", "adapter_lr": more}, arrays, steps=10)[0] for more in (1.0, 4.0)]
    plain, larger = (tx.update(grads, tx.init(arrays), arrays)[0] for tx in makers)
    for name in NAMES:
        np.testing.assert_array_equal((4 if name.startswith("adapters/") else 1) * plain[name], larger[name], name)


def test_mistakes_are_named():
    arrays = {"head/w": jnp.ones(2)}
    for config, words in [
        ({"groups": (("head/", 1.0),)}, None),
        ({"groups": (("adapters/", 1.0), (".*", 1.0))}, "adapters/"),
        ({"groups": (("adapters/", 1.0, 1.0, True), (".*", 1.0))}, None),
        ({"groups": (("adapters/", 1.0, 1.0, True),)}, "covers"),
        ({"groups": (("(", 1.0),)}, "optim.groups"),
        ({"groups": "rein512"}, "Did you mean 'rein_512'"),
        ({"weight_decy": 0.1}, "Did you mean 'weight_decay'"),
        ({"warmup_steps": 10}, "warmup_steps"),
        ({"lr": -1.0}, "optim.lr"),
        ({"backbone_lr": float("nan")}, "optim.backbone_lr"),
        ({"adapter_lr": -1.0}, "optim.adapter_lr"),
    ]:
        if words is None:
            optim.make_optimizer(config, arrays, steps=10)
        else:
            with pytest.raises(UserError, match=words.replace("(", r"\(")):
                optim.make_optimizer(config, arrays, steps=10)


def _run(config, params, grads, steps):
    tx, _ = optim.make_optimizer(config, params)

    @jax.jit
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return {name: params[name] + updates[name] for name in params}, state

    state = tx.init(params)
    for i in range(steps):
        params, state = step(params, state, {name: g[i] for name, g in grads.items()})
    return params


@pytest.mark.parity
@pytest.mark.parametrize("annealed", [False, True])
def test_adamw_equals_torch(annealed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    params = {n: rng.normal(size=(5, 3)).astype(np.float32) for n in ("head/norm/scale", "head/w", "backbone/w")}
    grads = {n: rng.normal(size=(8, 5, 3)).astype(np.float32) for n in params}
    config = {"steps": 8, "lr": 0.01, "weight_decay": 0.5, "decay_end": 0.1 if annealed else None,
              "groups": ((".*norm", 0.0), ("backbone/", 1.0, 0.5), (".*", 1.0))}
    got = _run(config, {n: jnp.asarray(p) for n, p in params.items()}, grads, 8)

    t = {n: torch.nn.Parameter(torch.tensor(p)) for n, p in params.items()}
    decay = {"head/norm/scale": 0.0, "head/w": 0.5, "backbone/w": 0.5}
    factor = {"head/norm/scale": 1.0, "head/w": 1.0, "backbone/w": 0.5}
    opt = torch.optim.AdamW([{"params": [t[n]], "name": n} for n in t], lr=0.01)
    for i in range(8):
        for group in opt.param_groups:
            name = group["name"]
            group["lr"] = factor[name] * 0.01 * (1 - i / 7) ** 0.9
            half = (1 + np.cos(np.pi * i / 8)) / 2
            group["weight_decay"] = 0.1 + (decay[name] - 0.1) * half if annealed else decay[name]
            t[name].grad = torch.tensor(grads[name][i])
        opt.step()
    for name in t:
        np.testing.assert_allclose(got[name], t[name].detach().numpy(), atol=2e-6, rtol=0)


def test_first_steps_have_the_accuracy_of_float32():
    """With a constant gradient AdamW moves by exactly the learning rate; optax.adamw misses that by 6e-6 in the first step."""
    config = {"steps": 10**6, "lr": 1.0, "weight_decay": 0.0, "eps": 0.0, "power": 0.0, "groups": ((".*",),)}
    for steps in (1, 2, 5):
        moved = _run(config, {"w": jnp.zeros(3)}, {"w": jnp.full((steps, 3), 0.3)}, steps)["w"]
        np.testing.assert_allclose(moved, -float(steps), rtol=5e-7)


def test_clipping_by_the_global_norm():
    params = {"a": jnp.zeros(3), "b": jnp.zeros(4)}
    config = {"steps": 10, "lr": 1.0, "weight_decay": 0.0, "betas": (0.0, 0.0), "eps": 1e3, "groups": ((".*",),), "clip": 0.5}
    grads = {"a": jnp.full((1, 3), 30.0), "b": jnp.full((1, 4), -40.0)}
    moved = _run(config, params, grads, 1)
    # With a huge epsilon, AdamW's direction is the gradient over epsilon: its norm shows the clipped one.
    norm = float(jnp.sqrt(sum(jnp.sum(p**2) for p in moved.values())))
    assert norm == pytest.approx(0.5 / 1e3, rel=1e-3)

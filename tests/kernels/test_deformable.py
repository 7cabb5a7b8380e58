"""Sums of deformable attention against a torch twin built on grid_sample, and every form against the reference."""

from contextlib import nullcontext
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rein_jax.kernels import deformable
from rein_jax.kernels.deformable import FORMS, deformable_sum
from rein_jax.kernels.deformable_tpu import suits
from rein_jax.kernels.platforms import images_split
from tests.kernels.forms import free_batch, hold, picked

SIZES = ((3, 2), (5, 4), (6, 7))
TOTAL = sum(h * w for h, w in SIZES)


def _case(seed=0, heads=4, channels=3, points=2, batch=2, queries=TOTAL, sizes=SIZES):
    rng = np.random.default_rng(seed)
    value = rng.normal(size=(batch, sum(h * w for h, w in sizes), heads, channels)).astype(np.float32)
    locations = rng.uniform(-0.2, 1.2, size=(batch, queries, heads, len(sizes), points, 2)).astype(np.float32)
    weights = rng.random((batch, queries, heads, len(sizes), points)).astype(np.float32)
    return value, locations, weights


def _twin(value, locations, weights):
    """One grid_sample a level, as Deformable DETR's reference in torch."""
    torch = pytest.importorskip("torch")
    value, locations, weights = (torch.tensor(a, requires_grad=True) for a in (value, locations, weights))
    batch, _, heads, channels = value.shape
    total, start = 0, 0
    for level, (h, w) in enumerate(SIZES):
        v = value[:, start:start + h * w].permute(0, 2, 3, 1).reshape(batch * heads, channels, h, w)
        grid = 2 * locations[:, :, :, level].transpose(1, 2).reshape(batch * heads, TOTAL, -1, 2) - 1
        read = torch.nn.functional.grid_sample(v, grid, align_corners=False).reshape(batch, heads, channels, TOTAL, -1)
        total = total + (read * weights[:, :, :, level].permute(0, 2, 1, 3)[:, :, None]).sum(-1).permute(0, 3, 1, 2)
        start += h * w
    (total**2).sum().backward()
    return total.detach().numpy(), [a.grad.numpy() for a in (value, locations, weights)]


def _both(args, function=deformable_sum):
    def loss(*args):
        out = function(args[0], SIZES, *args[1:])
        return (out**2).sum(), out

    (_, out), grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(*map(jnp.asarray, args))
    return out, grads


@pytest.mark.parity
@pytest.mark.parametrize("form", ["chosen here", "reference"])
def test_values_and_gradients_equal_torch(form):
    args = _case()
    want, want_grads = _twin(*args)
    out, grads = _both(args, deformable_sum if form == "chosen here" else lambda *a: FORMS[form](*a, False))
    assert np.abs(out - want).max() <= 1e-5 * np.abs(want).max()
    for got, expected in zip(grads, want_grads, strict=True):
        assert np.abs(got - expected).max() <= 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("kind", ["odd queries and low memory", "one of each", "bfloat16"])
def test_every_form_is_the_reference(kind):
    low, limits = kind == "odd queries and low memory", {"values": 3e-6, "gradients": 3e-6}
    sizes = ((1, 1),) if kind == "one of each" else SIZES
    options = {"heads": 1, "channels": 1, "points": 1, "batch": 1, "queries": 1} if kind == "one of each" else {"queries": 7}
    value, locations, weights = map(jnp.asarray, _case(1, sizes=sizes, **options))
    if kind == "bfloat16":
        value, limits = value.astype(jnp.bfloat16), {"values": 2**-6, "gradients": 2**-5}
    hold(FORMS, lambda form, value, *a: form(value, sizes, *a, low), value, locations, weights, **limits)


@pytest.mark.parametrize("form", FORMS)
def test_locations_far_outside_read_nothing(form):
    value, locations, weights = map(jnp.asarray, _case(batch=1, queries=6))
    for i, far in enumerate((1e30, -1e30, jnp.inf, -jnp.inf)):
        locations = locations.at[:, i].set(far)
    result = np.asarray(jax.jit(lambda *a: FORMS[form](a[0], SIZES, *a[1:], False))(value, locations, weights))
    assert np.all(result[:, :4] == 0) and np.all(result[:, 4:] != 0)


@pytest.mark.parametrize("part", [1, 17, 34])
def test_parts_of_queries_give_the_whole(part, monkeypatch):
    args = [jnp.asarray(a) for a in _case()]
    assert TOTAL == 68
    want, want_grads = _both(args)
    monkeypatch.setattr(deformable, "_queries_at_once", lambda *_: part)
    got, grads = _both(args)
    for ours, expected in zip((got, *grads), (want, *want_grads), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_parts_divide_the_queries():
    for queries in (1, 7, 68, 5376, 21504):
        for rows in (1, 2**15, 2**19):
            part = deformable._queries_at_once(queries, 384, rows)
            assert queries % part == 0 and (part * 384 <= rows or part == 1)


def test_a_free_batch_size():
    value, locations, weights = map(jnp.asarray, _case(queries=5))
    want = FORMS["reference"](value, SIZES, locations, weights, False)
    for found in free_batch(lambda *a: deformable_sum(a[0], SIZES, *a[1:]), value, locations, weights):
        np.testing.assert_allclose(found, want, atol=1e-5)


@pytest.mark.parametrize("platform, form", [("cpu", "blocks"), ("gpu", "rows"), ("tpu", "gather"), ("tpu", "hats")])
def test_which_form_runs_where(monkeypatch, platform, form):
    """Kernels, which XLA does not split among devices, only where it is known how the images are."""
    value, locations, weights = map(jnp.asarray, _case())
    chip = SimpleNamespace(devices=np.asarray([SimpleNamespace(device_kind="TPU v5e")]))
    known = images_split(chip, ("data",)) if form == "hats" else nullcontext()
    with known:
        assert picked(deformable, monkeypatch, platform, lambda: deformable_sum(value, SIZES, locations, weights)) == form


def test_kernels_take_a_share_of_the_fast_memory():
    value = jax.ShapeDtypeStruct((1, 1, 8, 32), jnp.bfloat16)
    fits = lambda crop, mebibytes: suits(value, tuple((crop // by, crop // by) for by in (32, 16, 8)), 4, mebibytes * 2**20)
    assert fits(512, 16) and fits(1024, 64) and not fits(1024, 16) and not fits(2048, 128) and not fits(64, 0)


@pytest.mark.parametrize("queries", [1, 130])
def test_hats_at_the_positions_themselves(queries):
    """There the hat has a corner; the gradient is the one towards larger places, as the reference's. Queries fill one tile, or two."""
    value, locations, weights = map(jnp.asarray, _case(3, batch=1, queries=queries, sizes=((8, 4), (4, 16))))
    on_grid = (jnp.round(locations * 8) + 0.5) / jnp.asarray([[4, 8], [16, 4]], jnp.float32)[:, None]
    forms = {name: FORMS[name] for name in ("reference", "hats")}
    hold(forms, lambda form, *a: form(a[0], ((8, 4), (4, 16)), *a[1:], False), value, on_grid, weights, values=3e-6, gradients=3e-6)

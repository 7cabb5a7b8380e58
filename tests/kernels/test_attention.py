"""Attention: every form against the reference, and which one runs where. cuDNN's own kernels are tested in tests/gpu."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rein_jax.kernels import attention, attention_tpu
from rein_jax.kernels.attention import FORMS, attend
from rein_jax.kernels.attention_cpu import SCORES, worth
from tests.kernels.forms import hold, picked

KEYS = jax.random.split(jax.random.key(0), 4)
# cuDNN's form pads and cuts here as on a GPU; XLA takes the kernel's place.
RUNNABLE = FORMS | {"cudnn": partial(FORMS["cudnn"], implementation="xla")}


def arrays(queries, keys, batch=2, dtype=jnp.float32):
    return [jax.random.normal(key, (batch, n, 3, 8), dtype) for key, n in zip(KEYS, (queries, keys, keys), strict=False)]


@pytest.mark.parametrize("queries, keys, scale", [(8, 8, None), (17, 17, 0.3), (17, 8, 0.3), (8, 17, 0.3), (1, 1, None)])
def test_every_form_is_the_reference(queries, keys, scale):
    """At odd lengths, too, as a ViT with a class token has them, and at which JAX refuses cuDNN's gradients."""
    hold(RUNNABLE, lambda form, *qkv: form(*qkv, scale, None), *arrays(queries, keys), gradients=1e-5)


def test_the_reference_is_a_softmax():
    q, k, v = arrays(5, 7)
    weights = jax.nn.softmax(jnp.einsum("bnhd,bmhd->bhnm", q, k) * 8**-0.5, axis=-1)
    np.testing.assert_allclose(FORMS["reference"](q, k, v, None, None), jnp.einsum("bhnm,bmhd->bnhd", weights, v), atol=1e-6)


@pytest.mark.parametrize("queries, keys", [(8, 8), (17, 9)])
def test_every_form_masks_like_the_reference(queries, keys):
    allowed = jax.random.bernoulli(KEYS[3], 0.3, (2, queries, keys)).at[:, :, 2].set(True).at[:, 0, 3:].set(False)
    hold(RUNNABLE, lambda form, *qkv: form(*qkv, None, allowed), *arrays(queries, keys), skip=("cudnn",))  # which takes no mask


def test_every_form_of_half_precision_is_near_the_reference():
    half = lambda form, *qkv: form(*qkv, None, None)
    hold(RUNNABLE, half, *arrays(9, 7, dtype=jnp.bfloat16), skip=("blocked",), values=2**-6, gradients=2**-5)  # blocked is float32's


@pytest.mark.parametrize("kind", ["even", "masked", "last block filled up"])
def test_several_blocks(kind):
    queries = 779 if kind == "last block filled up" else 780
    assert worth(queries, 800, 3) and SCORES < queries * 800  # two blocks of 390 rows
    allowed = jax.random.bernoulli(KEYS[0], 0.3, (2, 780, 800)).at[:, 0, 1:].set(False).at[:, 0, 0].set(True)
    options = {"even": (None, None), "masked": (None, allowed), "last block filled up": (0.5, None)}[kind]
    hold(RUNNABLE, lambda form, *qkv: form(*qkv, *options), *arrays(queries, 800), skip=("cudnn",), values=3e-6, gradients=3e-6)


@pytest.mark.parametrize("kind", ["plain", "masked", "half"])
def test_one_head_at_a_time_on_a_tpu(kind, monkeypatch):
    monkeypatch.setattr(attention_tpu, "WHOLE", 0)
    allowed = jax.random.bernoulli(KEYS[3], 0.3, (2, 17, 9)).at[:, :, 2].set(True).at[:, 0, 3:].set(False) if kind == "masked" else None
    forms = {name: FORMS[name] for name in ("reference", "recomputed")}
    limits = {"values": 2**-6, "gradients": 2**-5} if kind == "half" else {"gradients": 1e-5}
    dtype = jnp.bfloat16 if kind == "half" else jnp.float32
    hold(forms, lambda form, *qkv: form(*qkv, 0.3, allowed), *arrays(17, 9, dtype=dtype), **limits)


@pytest.mark.parametrize("whole", [0, attention_tpu.WHOLE])
def test_no_probabilities_are_kept_on_a_tpu(whole, monkeypatch):
    monkeypatch.setattr(attention_tpu, "WHOLE", whole)
    total = lambda *qkv: FORMS["recomputed"](*qkv, None, None).sum()
    kept = jax.tree.leaves(jax.eval_shape(lambda *qkv: jax.vjp(total, *qkv)[1], *arrays(64, 64)))
    assert max(a.size for a in kept) <= 2 * 64 * 3 * 8 < 2 * 3 * 64 * 64


def test_an_exported_program_has_no_loops():
    batch, = jax.export.symbolic_shape("b")
    shapes = [jax.ShapeDtypeStruct((batch, 780, 3, 8), jnp.float32)] * 3
    assert worth(780, 780, 3) and "scan" not in str(jax.make_jaxpr(attend)(*shapes))


@pytest.mark.parametrize("platform, shape, dtype, masked, form", [
    ("cpu", (2, 780, 3, 8), jnp.float32, False, "blocked"), ("cpu", (2, 780, 3, 8), jnp.float32, True, "blocked"),
    ("cpu", (2, 8, 3, 8), jnp.float32, False, "reference"), ("cpu", (2, 780, 3, 8), jnp.bfloat16, False, "reference"),
    ("gpu", (2, 65, 3, 64), jnp.bfloat16, False, "cudnn"), ("gpu", (2, 65, 3, 128), jnp.float16, False, "cudnn"),
    ("gpu", (2, 65, 3, 64), jnp.bfloat16, True, "reference"), ("gpu", (2, 65, 3, 64), jnp.float32, False, "reference"),
    ("gpu", (2, 65, 3, 136), jnp.bfloat16, False, "reference"), ("gpu", (2, 65, 3, 12), jnp.bfloat16, False, "reference"),
    ("tpu", (2, 780, 3, 64), jnp.bfloat16, False, "recomputed"), ("tpu", (2, 780, 3, 64), jnp.float32, True, "recomputed")])
def test_which_form_runs_where(monkeypatch, platform, shape, dtype, masked, form):
    x = jax.ShapeDtypeStruct(shape, dtype)
    allowed = jax.ShapeDtypeStruct((shape[0], shape[1], shape[1]), bool) if masked else None
    assert picked(attention, monkeypatch, platform, lambda: attend(x, x, x, allowed=allowed)) == form

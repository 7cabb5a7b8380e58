"""Operations with a form of their own for the CPU compute what their forms for accelerators do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rein_jax.kernels.attention_cpu import worth
from rein_jax.kernels.platforms import compiling_for, target
from rein_jax.layers.attention import attend
from rein_jax.layers.conv import Depthwise3x3, Doubled
from rein_jax.layers.conv3x3 import conv3x3
from rein_jax.layers.deformable import deformable_sum
from rein_jax.layers.mlp import gelu
from rein_jax.layers.norm import LayerNorm, layer_norm
from rein_jax.losses.mask_loss import MaskLoss, least

KEYS = jax.random.split(jax.random.key(0), 4)


def everywhere(function, *arguments):
    """The function traced for this CPU, for a TPU and for a GPU."""
    found = [jax.jit(lambda *a: function(*a))(*arguments)]
    for platform in ("tpu", "gpu"):
        with compiling_for(platform):
            assert target() == platform
            found.append(jax.jit(lambda *a: function(*a))(*arguments))
    assert target() == "cpu"
    return found


def test_least():
    values = jnp.round(jnp.abs(jax.random.normal(KEYS[0], (500,))) * 20) / 20  # many equal ones
    for k in (1, 137, 500):
        here, *others = everywhere(lambda v: least(v, k), values)  # noqa: B023
        assert len(here) == k and all(set(np.asarray(here).tolist()) == set(np.asarray(there).tolist()) for there in others)


def test_depthwise_convolution_and_its_gradients():
    layer, x = Depthwise3x3(6, rngs=nnx.Rngs(0)), jax.random.normal(KEYS[0], (2, 5, 7, 6))
    graph, state = nnx.split(layer)
    run = jax.grad(lambda state, x: jnp.sum(jnp.sin(nnx.merge(graph, state)(x))), argnums=(0, 1))
    here, *others = everywhere(run, state, x)
    for there in others:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), here, there)


def test_doubling_is_a_transposed_convolution():
    layer, x = Doubled(5, rngs=nnx.Rngs(0), bias_init=nnx.initializers.normal()), jax.random.normal(KEYS[0], (2, 3, 4, 5))
    np.testing.assert_allclose(layer(x), nnx.ConvTranspose.__call__(layer, x), rtol=1e-5, atol=1e-5)


def test_mask_loss_and_its_gradient():
    loss = MaskLoss(5, points=96)
    outputs = {"cls": jax.random.normal(KEYS[0], (3, 2, 8, 6)), "mask": 4 * jax.random.normal(KEYS[1], (3, 2, 8, 12, 16))}
    label = jnp.repeat(jnp.repeat(jax.random.randint(KEYS[2], (2, 6, 8), 0, 4), 8, 1), 8, 2)
    close(everywhere(jax.value_and_grad(lambda o: loss(o, label, KEYS[3])[0]), outputs))


def test_attention_and_its_gradient():
    size = lambda n: (2, n, 3, 8)
    q, k, v, weights = (jax.random.normal(key, size(n)) for key, n in zip(KEYS, (780, 800, 800, 780), strict=True))
    assert worth(780, 800, 3)  # two blocks of 390 rows
    value = jax.value_and_grad(lambda *a: jnp.sum(jnp.abs(attend(*a) - weights)), argnums=(0, 1, 2))
    close(everywhere(value, q, k, v))
    allowed = jax.random.bernoulli(KEYS[0], 0.3, (2, 780, 800)).at[:, 0, 1:].set(False).at[:, 0, 0].set(True)
    close(everywhere(jax.value_and_grad(lambda *a: jnp.sum(jnp.abs(attend(*a, allowed=allowed) - weights)), argnums=(0, 1, 2)), q, k, v))
    odd = q[:, :779]  # the last block is filled up
    total = lambda *a: jnp.sum(jnp.abs(attend(*a, scale=0.5) - weights[:, :779]))
    close(everywhere(jax.value_and_grad(total, argnums=(0, 1, 2)), odd, k, v))


def test_attention_of_an_exported_program_has_no_loops():
    batch, = jax.export.symbolic_shape("b")
    shapes = [jax.ShapeDtypeStruct((batch, 780, 3, 8), jnp.float32)] * 3
    assert worth(780, 780, 3) and "scan" not in str(jax.make_jaxpr(attend)(*shapes))


def test_layer_norm_and_its_gradient():
    norm = layer_norm(48, 1e-6, rngs=nnx.Rngs(0))
    graph, state = nnx.split(norm)
    state = jax.tree.map(lambda a: a + 0.3 * jax.random.normal(KEYS[1], a.shape), state)
    x, weights = 5 + 3 * jax.random.normal(KEYS[0], (3, 7, 48)), jax.random.normal(KEYS[2], (3, 7, 48))
    close(everywhere(jax.value_and_grad(lambda s, x: jnp.sum(jnp.abs(nnx.merge(graph, s)(x) - weights)), argnums=(0, 1)), state, x))


def test_deformable_attention_and_its_gradient():
    sizes = ((4, 6), (8, 12))
    value, weights = jax.random.normal(KEYS[0], (2, 120, 2, 4)), jax.random.uniform(KEYS[1], (2, 120, 2, 2, 3))
    places = jax.random.uniform(KEYS[2], (2, 120, 2, 2, 3, 2), minval=-0.2, maxval=1.2)
    total = lambda *a: jnp.sum(deformable_sum(a[0], sizes, *a[1:]) ** 2)
    close(everywhere(jax.value_and_grad(total, argnums=(0, 1, 2)), value, places, weights))


def test_convolution_and_its_gradient():
    x, kernel = jax.random.normal(KEYS[0], (2, 9, 7, 5)), jax.random.normal(KEYS[1], (3, 3, 5, 6))
    close(everywhere(jax.value_and_grad(lambda *a: jnp.sum(conv3x3(*a) ** 2), argnums=(0, 1)), x, kernel))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", ["norm", "gelu"])
def test_a_gradient_from_the_input_alone_is_what_differentiation_gives(name, dtype):
    """Against Flax's LayerNorm and JAX's GELU in float32, and what the backward pass keeps: the input and a number or two a row."""
    norm, plain = (make(48, epsilon=1e-6, use_fast_variance=False, rngs=nnx.Rngs(0)) for make in (LayerNorm, nnx.LayerNorm))
    scale, bias = 1 + 0.3 * jax.random.normal(KEYS[1], (48,)), jax.random.normal(KEYS[3], (48,))
    for module in (norm, plain):
        module.scale, module.bias = nnx.Param(scale.astype(dtype)), nnx.Param(bias.astype(dtype))
    ours, theirs = {"norm": (norm, plain), "gelu": (gelu, lambda x: jax.nn.gelu(x, approximate=False))}[name]
    x = (0.3 + 2 * jax.random.normal(KEYS[0], (5, 7, 48))).astype(dtype)
    (y, back), (exact, exact_back) = jax.vjp(ours, x), jax.vjp(theirs, x.astype(jnp.float32))
    assert y.dtype == dtype
    gradient = jax.random.normal(KEYS[2], x.shape).astype(dtype)
    (found,), (expected,) = back(gradient), exact_back(gradient.astype(exact.dtype))
    assert found.dtype == dtype
    limit = {"atol": 2e-6} if dtype == jnp.float32 else {"rtol": 2**-7, "atol": 2**-7}
    np.testing.assert_allclose(y.astype(jnp.float32), exact.astype(jnp.float32), **limit)
    np.testing.assert_allclose(found.astype(jnp.float32), expected.astype(jnp.float32), **limit)
    assert sum(kept.nbytes for kept in jax.tree.leaves(back)) <= x.nbytes + 2 * 4 * 35 + 2 * scale.astype(dtype).nbytes


def close(found):
    here, *others = map(jax.tree.leaves, found)
    for there in others:
        for a, b in zip(here, there, strict=True):
            scale = max(float(jnp.abs(b).max()), 1e-6)
            np.testing.assert_allclose(a / scale, b / scale, atol=3e-6)

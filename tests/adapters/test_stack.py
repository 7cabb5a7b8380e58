"""The block loop: scan equals the plain loop, adapters on some blocks only, rematerialisation, chosen outputs, dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rein_jax import trees
from rein_jax.adapters.base import Adapter, BlockSpec, LayerContext
from rein_jax.adapters.rein import Rein
from rein_jax.backbones.run_blocks import Hooks, run_blocks
from rein_jax.errors import UserError
from rein_jax.layers.stack import stacked

DEPTH, WIDTH = 5, 8


class Block(nnx.Module):
    """A small residual block that calls every hook; it adds the context."""

    def __init__(self, rngs):
        self.fc = nnx.Linear(WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x, hooks, context):
        return x + hooks.on_mlp(x, jnp.tanh(hooks.on_linear("fc", x, self.fc(x)))) + context


@pytest.fixture(scope="module")
def blocks():
    return stacked(lambda r: Block(r), DEPTH, nnx.Rngs(0))


@pytest.fixture(scope="module")
def x():
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, WIDTH)), jnp.float32)


def rein(active=None, **options):
    spec = BlockSpec(DEPTH, WIDTH, num_prefix_tokens=1)
    return Rein(spec, rngs=nnx.Rngs(1), num_tokens=4, rank=2, query_dims=4, scale_init=0.5, blocks=active, **options)


def by_hand(blocks, adapter, x, active):
    """All block outputs by a plain Python loop over merged layers."""
    graph, state = nnx.split(blocks)
    layer_graph, layer_state = nnx.split(adapter.layers)
    outputs = []
    for i in range(DEPTH):
        block = nnx.merge(graph, jax.tree.map(lambda a: a[i], state))  # noqa: B023
        x = block(x, Hooks(Adapter(), LayerContext(None, 0, 1, None)), 0.1)
        if i in active:
            place = active.index(i)
            layer = nnx.merge(layer_graph, jax.tree.map(lambda a: a[place], layer_state))  # noqa: B023
            x = adapter.post_block(LayerContext(layer, place, 1, None), x)
        outputs.append(x)
    return outputs


@pytest.mark.parametrize("active", [None, (0, 1), (1, 2, 4), (4,)])
@pytest.mark.parametrize("unroll", [False, True])
def test_adapters_on_some_blocks(blocks, x, active, unroll):
    adapter = rein(active)
    run = lambda x: run_blocks(blocks, x, adapter=adapter, num_prefix_tokens=1, out_indices=(0, 2, 4), unroll=unroll, context=0.1)
    expected = jax.jit(lambda x: by_hand(blocks, adapter, x, tuple(range(DEPTH)) if active is None else active))(x)
    last, outputs = jax.jit(run)(x)
    np.testing.assert_allclose(last, expected[-1], atol=1e-6)
    for tap, i in zip(outputs, (0, 2, 4), strict=True):
        np.testing.assert_allclose(tap, expected[i], atol=1e-6)


def test_two_stacks_share_one_adapter_through_offset(blocks, x):
    """SAM and ResNet run a spec as several stacks: offset says where each begins."""
    adapter = rein((0, 3))
    graph, state = nnx.split(blocks)
    first, second = (nnx.merge(graph, jax.tree.map(lambda a, s=s: a[s], state)) for s in (slice(0, 2), slice(2, 5)))

    def in_two(x):
        _, outputs = run_blocks(first, x, adapter=adapter, num_prefix_tokens=1, out_indices=(1,), context=0.1)
        return run_blocks(second, outputs[0], adapter=adapter, num_prefix_tokens=1, offset=2, context=0.1)[0]

    whole = jax.jit(lambda x: run_blocks(blocks, x, adapter=adapter, num_prefix_tokens=1, context=0.1)[0])(x)
    rest = jax.jit(in_two)(x)
    np.testing.assert_allclose(rest, whole, atol=1e-6)


@pytest.mark.parametrize("shared", [True, False])
def test_gradients_do_not_depend_on_scan_or_remat(blocks, x, shared):
    module_def, _, params = trees.split(rein(shared=shared), ())

    def loss(params, unroll, remat):
        adapter = trees.merge(module_def, params)
        options = {"unroll": unroll, "remat": remat, "context": 0.1}
        y, outputs = run_blocks(blocks, x, adapter=adapter, num_prefix_tokens=1, out_indices=(1, 3), **options)
        return (y**2).sum() + (outputs[0] * outputs[1]).sum()

    grad = jax.jit(jax.grad(loss), static_argnums=(1, 2))
    reference = grad(params, True, "none")
    assert any(np.abs(g).max() > 0 for g in reference.values())
    for unroll, remat in ((False, "none"), (False, "full"), (False, "dots")) if shared else ((False, "dots"),):
        for name, value in grad(params, unroll, remat).items():
            np.testing.assert_allclose(value, reference[name], atol=1e-5 * max(1, np.abs(reference[name]).max()), err_msg=name)


def test_one_compiled_body_whatever_the_depth(blocks, x):
    """The scanned program has one tanh; the unrolled one has five."""
    text = lambda unroll: str(jax.make_jaxpr(lambda x: run_blocks(blocks, x, unroll=unroll, context=0.1)[0])(x))
    assert text(False).count("tanh") == 1
    assert text(True).count("tanh") == DEPTH


def test_a_float32_adapter_does_not_widen_a_bfloat16_stream(blocks, x):
    module_def, _, params = trees.split(blocks, ())
    half = trees.merge(module_def, trees.cast(params, jnp.bfloat16))
    adapter = rein()
    options = {"num_prefix_tokens": 1, "out_indices": (0,), "context": jnp.bfloat16(0.1)}
    run = lambda x: run_blocks(half, x.astype(jnp.bfloat16), adapter=adapter, **options)
    y, outputs = jax.eval_shape(run, x)
    assert y.dtype == outputs[0].dtype == jnp.bfloat16


def test_unknown_remat_is_named(blocks, x):
    with pytest.raises(UserError, match="remat is 'some'"):
        run_blocks(blocks, x, remat="some", context=0.1)

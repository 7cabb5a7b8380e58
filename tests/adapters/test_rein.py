"""Rein against outputs and gradients of the official code, its ablations against the formula, and its published sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rein_jax import trees
from rein_jax.adapters.base import BlockSpec, LayerContext
from rein_jax.adapters.rein import Rein, rules
from rein_jax.errors import UserError
from rein_jax.weight_rules import LAYOUTS
from tests.filling import assert_layers, filled

CASES = {
    "full_d48": (3, 48, dict(num_tokens=10, rank=None, query_dims=32)),
    "full_d48_zeromlp": (2, 48, dict(num_tokens=10, rank=None, query_dims=32, zero_mlp_delta_f=True)),
    "lora_d64_r4": (4, 64, dict(num_tokens=12, rank=4, query_dims=32)),
}


def at_every_layer(adapter: Rein, xs, num_prefix_tokens: int = 1):
    """Each layer of the adapter on its own input [B, N, d]."""
    graph, state = nnx.split(adapter.layers)
    take = lambda i: nnx.merge(graph, jax.tree.map(lambda a: a[i], state))
    return [adapter.post_block(LayerContext(take(i), i, num_prefix_tokens, None), x) for i, x in enumerate(xs)]


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_equal_the_official_ones(name, fixture_case):
    depth, width, options = CASES[name]
    inputs, outputs = fixture_case(f"reins/{name}", "inputs"), fixture_case(f"reins/{name}", "outputs")
    table = rules("", "")
    make = lambda: Rein(BlockSpec(depth, width, num_prefix_tokens=1), rngs=nnx.Rngs(0), **options)
    module_def, params = filled(make, fixture_case(f"reins/{name}", "weights"), table)

    def loss(params, xs):
        adapter = trees.merge(module_def, params)
        ys, queries = at_every_layer(adapter, xs), adapter.queries()
        cotangents = [inputs[f"cotangent_layer{i}"] for i in range(depth)]
        total = sum((y * c).sum() for y, c in zip(ys, cotangents, strict=True)) + (queries * inputs["cotangent_queries"]).sum()
        return total, (ys, queries)

    xs = [jnp.asarray(inputs[f"x_layer{i}"]) for i in range(depth)]
    (grads, grad_xs), (ys, queries) = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(params, xs)
    pairs = [(f"layer {i}", y, outputs[f"out_layer{i}"]) for i, y in enumerate(ys)] + [("queries", queries, outputs["queries"])]
    pairs += [(f"gradient to the input of layer {i}", g, outputs[f"grad_x_layer{i}"]) for i, g in enumerate(grad_xs)]
    found = [rule for rule in table if f"grad:{rule.source}" in outputs]
    assert {rule.target for rule in found} == set(params)
    pairs += [(f"gradient to {r.source}", grads[r.target], LAYOUTS[r.layout][0](outputs[f"grad:{r.source}"])) for r in found]
    assert_layers(pairs)


def test_tokens_are_the_product_of_their_factors(fixture_case):
    _, params = filled(
        lambda: Rein(BlockSpec(4, 64), rngs=nnx.Rngs(0), num_tokens=12, rank=4, query_dims=32),
        fixture_case("reins/lora_d64_r4", "weights"), rules("", ""),
    )  # fmt: skip
    whole = np.asarray(params["layers/tokens_a"]) @ np.asarray(params["layers/tokens_b"])
    assert_layers([("tokens", whole, fixture_case("reins/lora_d64_r4", "outputs")["tokens_all"])])


@pytest.mark.parametrize("options", [dict(shared=False), dict(use_softmax=False), dict(rank=None, shared=False, link=False)])
def test_ablations_follow_the_formula(options):
    """f + scale * W_f(S' V + f), written out in NumPy."""
    rng = np.random.default_rng(0)
    small = {"num_tokens": 7, "rank": 4, "query_dims": 8, "scale_init": 0.3}
    adapter = Rein(BlockSpec(3, 16, num_prefix_tokens=2), rngs=nnx.Rngs(0), **{**small, **options})
    xs = rng.normal(size=(3, 2, 11, 16)).astype(np.float32)
    ours = jax.jit(lambda xs: at_every_layer(adapter, xs, num_prefix_tokens=2))(jnp.asarray(xs))
    for i, x in enumerate(xs):
        maps = adapter.maps if adapter.shared else adapter.layers.maps
        value = lambda p: np.asarray(p[...]) if adapter.shared else np.asarray(p[...])[i]  # noqa: B023
        layers = adapter.layers
        tokens = np.asarray(layers.tokens[...])[i] if adapter.layers and hasattr(layers, "tokens") else (
            np.asarray(layers.tokens_a[...])[i] @ np.asarray(layers.tokens_b[...])[i]
        )  # fmt: skip
        f = x[:, 2:]
        share = f @ tokens.T
        if options.get("use_softmax", True):
            share = np.exp(share / 4 - (share / 4).max(-1, keepdims=True))
            share = share / share.sum(-1, keepdims=True)
        values = tokens[1:] @ value(maps.mlp_token2feat.kernel) + value(maps.mlp_token2feat.bias)
        delta = (share[..., 1:] @ values + f) @ value(maps.mlp_delta_f.kernel) + value(maps.mlp_delta_f.bias)
        assert_layers([(f"layer {i}", ours[i], np.concatenate([x[:, :2], f + 0.3 * delta], 1))])
    if not adapter.link:
        assert adapter.queries() is None


# Rows of the paper's ablation table and of reference 1.5: parameters on ViT-L (24 blocks of width 1024).
SIZES = {
    "paper": (dict(), 2_990_081),
    "rank 4": (dict(rank=4), 24 * 4 * 1124 + 2_558_465),
    "rank 64": (dict(rank=64), 24 * 64 * 1124 + 2_558_465),
    "whole tokens": (dict(rank=None), 24 * 100 * 1024 + 2_558_465),
    "own maps, no link, whole tokens": (dict(rank=None, shared=False, link=False), 24 * 100 * 1024 + 24 * 2_099_200 + 1),
}


@pytest.mark.parametrize("options, published", SIZES.values(), ids=SIZES)
def test_parameter_counts(options, published):
    adapter = nnx.eval_shape(lambda: Rein(BlockSpec(24, 1024, 1), rngs=nnx.Rngs(0), **options))
    assert trees.count(trees.flatten(adapter)) == published


@pytest.mark.parametrize("blocks, published", [(None, 4_510_721), ((7, 15, 23, 31), 3_892_481)])
def test_sam_h_as_in_the_paper_and_as_released(blocks, published):
    adapter = nnx.eval_shape(lambda: Rein(BlockSpec(32, 1280), rngs=nnx.Rngs(0), blocks=blocks))
    assert trees.count(trees.flatten(adapter)) == published


def test_bad_blocks_are_named():
    with pytest.raises(UserError, match="increasing block numbers between 0 and 3"):
        Rein(BlockSpec(4, 8), rngs=nnx.Rngs(0), blocks=(2, 4))
    with pytest.raises(UserError, match="at least 2"):
        Rein(BlockSpec(4, 8), rngs=nnx.Rngs(0), num_tokens=1)


@pytest.mark.parametrize("rank,shared", [(16, True), (None, False)])
def test_spread_queries_start_apart_and_change_nothing_else(rank, shared):
    make = lambda init: Rein(BlockSpec(6, 96), rngs=nnx.Rngs(0), rank=rank, shared=shared, query_dims=64, query_init=init)
    plain, spread = make("torch"), make("spread")
    queries = np.asarray(spread.queries())
    np.testing.assert_allclose(queries.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(queries.std(0), 1, atol=1e-3)
    assert np.asarray(plain.queries()).std(0).max() < 0.05  # the original's: close together
    before, after = trees.flatten(plain), trees.flatten(spread)
    assert {path for path in before if not np.array_equal(before[path], after[path])} == {"merge/kernel", "merge/bias"}


def test_an_unknown_query_init_is_refused():
    with pytest.raises(UserError, match="torch, spread"):
        Rein(BlockSpec(2, 16), rngs=nnx.Rngs(0), query_init="far")

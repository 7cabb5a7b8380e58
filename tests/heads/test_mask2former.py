"""The Mask2Former head against the official code's outputs, its initial values, and its names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rein_jax import trees
from rein_jax.errors import UserError
from rein_jax.heads.mask2former import RULES, Mask2Former
from rein_jax.weight_rules import place, unplace
from tests.heads.official import SMALL, error, loaded, maps_of, small_head


@pytest.fixture(scope="module")
def official(fixture_case):
    return {part: fixture_case("head_small", part) for part in ("weights", "inputs", "outputs")}


def _inspect(module_def):
    @jax.jit
    def run(params, maps, queries):
        head = trees.merge(module_def, params).head
        outputs = head.inspect(maps, queries)
        return outputs, head.scores(outputs, (64, 64))

    return run


def test_everything_equals_the_original(official):
    module_def, params = loaded(official["weights"])
    outputs, scores = _inspect(module_def)(params, maps_of(official["inputs"]), jnp.asarray(official["inputs"]["queries"]))
    want = official["outputs"]
    assert error(outputs["features"].transpose(0, 3, 1, 2), want["mask_features"]) <= 1e-5
    for i, memory in enumerate(outputs["memories"]):
        assert error(memory.transpose(0, 3, 1, 2), want[f"memory{i}"]) <= 1e-5, i
    for p in range(10):
        assert error(outputs["cls"][p], want[f"cls{p}"]) <= 1e-5, p
        assert error(outputs["mask"][p], want[f"mask{p}"]) <= 1e-5, p
        assert np.array_equal(outputs["blocked"][p], want[f"attn_mask{p}"]), p
    assert error(scores.transpose(0, 3, 1, 2)[:, :, ::4, ::4], want["predict_seg_logits"]) <= 1e-5


@pytest.mark.parametrize("source", ["learned", pytest.param("learned_feat", marks=pytest.mark.slow)])
def test_learned_queries_are_the_same_function(official, source):
    """The official linked head, with what the link gives stored as learned queries, has to answer the same."""
    weights, linked = dict(official["weights"]), official["inputs"]["queries"]
    weights["query_feat.weight"] = linked @ weights.pop("querys2feat.weight").T + weights.pop("querys2feat.bias")
    if source == "learned":
        weights["query_embed.weight"] = linked
    module_def, params = loaded(weights, source)
    given = jnp.asarray(linked) if source == "learned_feat" else None
    outputs, _ = _inspect(module_def)(params, maps_of(official["inputs"]), given)
    assert error(outputs["cls"][9], official["outputs"]["cls9"]) <= 1e-5
    assert error(outputs["mask"][9], official["outputs"]["mask9"]) <= 1e-5


def test_names_go_both_ways(official):
    weights = {f"decode_head.{name}": array for name, array in official["weights"].items()}
    _, params = loaded(official["weights"])
    back, left = unplace(RULES, {name: np.asarray(array) for name, array in params.items()})
    assert not left and back.keys() == weights.keys()
    assert all(np.array_equal(back[name], weights[name]) for name in weights)
    assert not place(RULES, weights)[1]


@pytest.fixture(scope="module")
def full_size():
    """The published head of ViT-L, as it starts: {official name: array}."""
    @jax.jit
    def make(key):
        return trees.flatten(Mask2Former((1024,) * 4, 19, rngs=nnx.Rngs(params=key), query_source="linked"))

    arrays = {f"head/{name}": np.asarray(array) for name, array in make(jax.random.key(3)).items()}
    return unplace(RULES, arrays)[0]


def test_initial_values_have_the_originals_statistics(full_size, fixture_case):
    want = fixture_case("init_stats", "head")
    ring = want.pop("sampling_offsets_bias")
    for name, (mean, std, largest) in want.items():
        array = full_size[f"decode_head.{name}"]
        if "sampling_offsets.bias" in name:
            np.testing.assert_allclose(array, ring, atol=3e-6)
            continue
        if std == 0:
            assert np.all(array == mean), name
            continue
        # Both are single draws: the tolerances are what draws of this size scatter by.
        n = array.size
        assert abs(array.mean() - mean) < 6 * std * (2 / n) ** 0.5, name
        assert abs(array.std() / std - 1) < 6 / n**0.5, name
        assert 0.85 < np.abs(array).max() / largest < 1.18 or n < 1000, name


def test_parameter_count_is_the_published_one(full_size):
    assert sum(array.size for array in full_size.values()) == 20_579_796


@pytest.mark.parametrize("source, count", [("learned_feat", 20_539_604), ("learned", 20_565_204)])
def test_parameter_counts_without_link(source, count):
    head = nnx.eval_shape(lambda: Mask2Former((1024,) * 4, 19, rngs=nnx.Rngs(0), query_source=source))
    assert trees.count(trees.flatten(head)) == count


def test_half_precision_gives_float32_logits_and_finite_scores(official):
    module_def, params = loaded(official["weights"])
    params = trees.cast(params, jnp.bfloat16)
    maps = [m.astype(jnp.bfloat16) for m in maps_of(official["inputs"])]
    outputs, scores = _inspect(module_def)(params, maps, jnp.asarray(official["inputs"]["queries"]))
    assert outputs["cls"].dtype == outputs["mask"].dtype == scores.dtype == jnp.float32
    assert outputs["features"].dtype == jnp.bfloat16
    assert np.isfinite(scores).all()
    assert error(outputs["features"].astype(jnp.float32).transpose(0, 3, 1, 2), official["outputs"]["mask_features"]) < 0.05


def test_probabilities_sum_to_one():
    head = nnx.eval_shape(lambda: small_head("learned"))
    scores = jnp.asarray(np.random.default_rng(0).random((2, 3, 4, 19)), jnp.float32).at[0, 0, 0].set(0)
    np.testing.assert_allclose(Mask2Former.probabilities(head, scores).sum(-1), 1, atol=1e-5)


def test_odd_numbers_of_layers_and_odd_sizes():
    head = small_head("learned", decoder_layers=4)
    maps = [jnp.ones((1, s, s + 1, 96)) for s in (20, 10, 5, 3)]
    shapes = jax.eval_shape(lambda: head(maps))
    assert shapes["cls"].shape == (5, 1, 20, 20) and shapes["mask"].shape == (5, 1, 20, 20, 21)


@pytest.mark.parametrize("config, words", [
    ({"query_source": "link"}, "head.query_source"), ({"channels": 60}, "head.channels"), ({"remat": "all"}, "head.remat"),
])
def test_mistakes_in_the_config_are_named(config, words):
    with pytest.raises(UserError, match=words):
        nnx.eval_shape(lambda: Mask2Former((96,) * 4, 19, rngs=nnx.Rngs(0), **{**SMALL, **config}))


@pytest.mark.parametrize("source, queries, words", [
    ("linked", None, "adapter gives no queries"), ("linked", (20, 32), "adapter.query_dims"),
    ("learned_feat", (30, 64), "adapter.num_tokens"),
])
def test_queries_that_do_not_fit_are_named(source, queries, words):
    def run():
        head = small_head(source)
        maps = [jnp.ones((1, s, s, 96)) for s in (16, 8, 4, 2)]
        return head(maps, None if queries is None else jnp.ones(queries))

    with pytest.raises(UserError, match=words):
        jax.eval_shape(run)


def test_three_maps_are_refused():
    with pytest.raises(UserError, match="four feature maps"):
        Mask2Former((96,) * 3, 19, rngs=nnx.Rngs(0))

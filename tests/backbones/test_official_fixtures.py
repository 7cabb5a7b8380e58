"""EVA-02 and DINOv2 with Rein against outputs of the official PyTorch code: every block, maps, queries and the gradients to Rein."""

import jax
import pytest
from flax import nnx

from rein_jax import trees
from rein_jax.adapters import rein
from rein_jax.backbones import dinov2, eva02
from rein_jax.backbones.run_blocks import run_blocks
from rein_jax.backbones.vit import ViTConfig
from rein_jax.weight_rules import LAYOUTS
from tests.filling import Guests, assert_layers, filled, gradients

CASES = {
    "eva02_tiny": (eva02, eva02.EVA02, eva02.EVA02Config(96, 4, 3, hidden=256), (0, 1, 2, 3), dict(num_tokens=20, rank=8, query_dims=64)),
    "dinov2_tiny_swiglu_d6": (
        dinov2, dinov2.DINOv2, ViTConfig(48, 6, 3, gated=True, hidden=128), (1, 2, 3, 5), dict(num_tokens=10, rank=4, query_dims=32),
    ),
    "dinov2_tiny_lora": (dinov2, dinov2.DINOv2, ViTConfig(96, 4, 3), (0, 1, 2, 3), dict(num_tokens=20, rank=8, query_dims=64)),
}  # fmt: skip
ADAPTER_RULES = rein.rules("reins.", "adapters/0/")


def channels_last(x):
    return x.transpose(0, 2, 3, 1)


def opened(name, fixture_case):
    """(module_def, parameters, inputs, outputs)."""
    module, cls, sizes, out_indices, options = CASES[name]

    def make():
        backbone = cls(sizes, image_size=64, out_indices=out_indices, rngs=nnx.Rngs(0))
        return Guests(backbone, [rein.Rein(backbone.block_specs[0], rngs=nnx.Rngs(0), **options)])

    rules, skip = module.formats(sizes)["official"]
    module_def, params = filled(make, fixture_case(name, "weights"), rules + ADAPTER_RULES, skip)
    return module_def, params, fixture_case(name, "inputs"), fixture_case(name, "outputs")


@pytest.mark.parametrize("name", CASES)
def test_every_block_then_maps_then_queries(name, fixture_case):
    module_def, params, inputs, outputs = opened(name, fixture_case)

    def run(params, images):
        model = trees.merge(module_def, params)
        backbone, adapter = model.backbone, model.adapters[0]
        x, grid = backbone.embed(images)
        depth = backbone.config.depth
        _, blocks = run_blocks(
            backbone.blocks, x, adapter=adapter, num_prefix_tokens=1, out_indices=tuple(range(depth)),
            context=backbone.context(grid, x.dtype),
        )  # fmt: skip
        return blocks, model(images), adapter.queries()

    blocks, maps, queries = jax.jit(run)(params, channels_last(inputs["x"]))
    pairs = [(f"block {i} with Rein", block, outputs[f"block{i}_out_after_rein"]) for i, block in enumerate(blocks)]
    pairs += [(f"map {i}", m, channels_last(outputs[f"feat{i}"])) for i, m in enumerate(maps) if f"feat{i}" in outputs]
    assert_layers([*pairs, ("queries", queries, outputs["queries"])])


@pytest.mark.parametrize("name", ["eva02_tiny", "dinov2_tiny_lora"])
def test_gradients_to_rein(name, fixture_case):
    module_def, params, inputs, outputs = opened(name, fixture_case)
    names = [name for name in outputs if name.startswith("grad:reins.")]
    cotangents = [channels_last(inputs[f"cotangent_feat{i}"]) for i in range(4)]
    mine = gradients(module_def, params, channels_last(inputs["x"]), cotangents, inputs["cotangent_queries"])
    pairs = [
        (rule.source, mine[rule.target], LAYOUTS[rule.layout][0](outputs[f"grad:{rule.source}"]))
        for rule in ADAPTER_RULES if f"grad:{rule.source}" in names
    ]  # fmt: skip
    assert len(pairs) == len(names) == len(mine)
    assert_layers(pairs)


def test_non_square_input_resizes_positions_on_the_fly(fixture_case):
    module_def, params, inputs, outputs = opened("dinov2_tiny_lora", fixture_case)
    maps = jax.jit(lambda p, x: trees.merge(module_def, p)(x))(params, channels_last(inputs["x_96x64"]))
    assert_layers([(f"map {i}", m, channels_last(outputs[f"feat{i}_96x64"])) for i, m in enumerate(maps)])

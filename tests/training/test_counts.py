"""Counting operations, communication and memory before anything runs."""

import jax
import jax.numpy as jnp
import pytest
from stand_in import make_components

from rein_jax.bench import step as bench_step
from rein_jax.errors import UserError
from rein_jax.planning import plan
from rein_jax.planning.collectives import collectives, describe, total_bytes
from rein_jax.planning.flops import count_flops, peak
from rein_jax.precision import policy
from rein_jax.sharding import make_mesh
from rein_jax.training import memory
from rein_jax.training.state import place_run
from rein_jax.training.step import batch_structs, make_loss

CONFIG = {"seed": 0, "train": {"steps": 10, "batch": 4}}
PROGRAM = """HloModule jit_step
%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %s = f32[] add(%a, %b)
}
%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %ag = bf16[8,4]{1,0} all-gather(%x), channel_id=1, replica_groups=[1,4]<=[4], dimensions={0}
  ROOT %t = (s32[], f32[8,4]) tuple(%i, %y)
}
%cond (p: (s32[], f32[8,4])) -> pred[] {
  %limit = s32[] constant(6)
  ROOT %lt = pred[] compare(%i, %limit), direction=LT
}
%told (p: (s32[])) -> (s32[]) {
  %ar = f32[10]{0} all-reduce(%x), to_apply=%add
}
ENTRY %main (p0: f32[8,4]) -> f32[8,4] {
  %w = (s32[], f32[8,4]) while(%t0), condition=%cond, body=%body
  %w2 = (s32[]) while(%t1), condition=%cond, body=%told, backend_config={"known_trip_count":{"n":"3"}}
  %ars = (f32[2,2]{1,0}, f32[]) all-reduce-start(%a, %b), to_apply=%add
  %ard = (f32[2,2]{1,0}, f32[]) all-reduce-done(%ars)
  %rs = f32[4]{0} reduce-scatter(%g), replica_groups={{0,1},{2,3}}, to_apply=%add
  ROOT %r = f32[8,4]{1,0} get-tuple-element(%w), index=1
}
"""


def test_collectives_count_loops_pairs_and_tuples_once_each():
    found = collectives(PROGRAM)
    assert found == {"all-gather": {"count": 6, "bytes": 6 * 64}, "all-reduce": {"count": 4, "bytes": 3 * 40 + 20},
                     "reduce-scatter": {"count": 1, "bytes": 32}}
    assert total_bytes(found) == 6 * 64 + 140 + 32
    assert describe({}) == "none" and "all-gather 6x" in describe(found)


def test_flops_of_products_convolutions_and_loops():
    a, b = jax.ShapeDtypeStruct((4, 5, 6), jnp.float32), jax.ShapeDtypeStruct((6, 7), jnp.float32)
    assert count_flops(lambda x, y: x @ y, a, b) == 2 * 4 * 5 * 6 * 7
    looped = lambda x, y: jax.lax.scan(lambda c, _: (c + jnp.sum(x @ y), None), 0.0, length=3)[0]
    assert count_flops(jax.jit(looped), a, b) == 3 * 2 * 4 * 5 * 6 * 7
    image, kernel = jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.float32), jax.ShapeDtypeStruct((3, 3, 2, 6), jnp.float32)
    layout = ("NHWC", "HWIO", "NHWC")
    conv = lambda x, k: jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", feature_group_count=2, dimension_numbers=layout)
    assert count_flops(conv, image, kernel) == 2 * (2 * 8 * 8 * 6) * 3 * 3 * 2
    assert peak("NVIDIA H100 80GB HBM3") == 989e12 and peak("cpu") is None


def test_memory_plan_counts_per_device_and_advises():
    components, mesh = make_components(CONFIG, depth=5), make_mesh()
    sharded = place_run(components.trainable, components.frozen, components.tx, policy("fp32"), mesh, "dp", ema=True,
                        wishes=components.module_def.wishes)
    batch = {n: s for n, s in batch_structs(4, components.crop, mesh).items() if n != "stop"}
    loss, key = make_loss(components.module_def, policy("fp32")), jax.random.key(0)
    found = memory.plan(sharded.state, sharded.frozen, batch, lambda t, f, d: loss(t, f, d, key)[0], 1)
    assert found.trainable == found.average == found.gradients == 4 * 36 and found.moments == 2 * 4 * 36 + 2 * 4
    assert found.frozen == 4 * (3 * 8 + 8 + 5 * 8 * 8)
    pixels = 4 * 16 * 16
    assert 4 * pixels * 8 <= found.activations <= 4 * pixels * 60  # the head's input and a few more; not the frozen blocks'
    assert memory.advice(found, None, {}) == [] == memory.advice(found, found.total, {})
    tips = memory.advice(found, found.total // 2, {"backbone": {"remat": "none"}})
    assert any("backbone.remat=full" in tip for tip in tips) and "will not fit" in tips[0]
    assert memory.size(1536) == "1.5 KiB" and memory.size(3 * 2**30) == "3.00 GiB"


@pytest.mark.parametrize("name, words", [("v9:2x2", "Unknown topology"), ("v5e", "Unknown topology"), ("cpu:512", "virtual CPU devices"),
                                         ("h100", "Unknown topology"), ("h100:0", "Unknown topology"),
                                         ("h101:8", "a100, h100, h200, b200")])
def test_topology_mistakes_are_one_sentence(name, words):
    with pytest.raises(UserError, match=words):
        plan.devices_of(name)


def test_bench_step_reports_one_line_of_numbers():
    found = bench_step.measure(CONFIG, steps=2, warmup=1, queued=True, build=make_components)
    assert found["queued_step_seconds"] > 0
    assert found["compilations"] == 1 and found["batch"] == 4 and found["crop"] == [16, 16]
    assert found["flops_per_step"] > 2 * 4 * 16 * 16 * (3 * 8 + 3 * 8 * 8 + 8 * 4)
    assert found["images_per_second"] > 0 and found["trainable"] == 36

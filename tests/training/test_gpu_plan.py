"""Programs compiled for GPUs that are not there; needs the CUDA compiler (extra `gpu`), no GPU."""

import jax
import jax.numpy as jnp
import pytest
from stand_in import make_components

from rein_jax import configuration
from rein_jax.kernels.attention import attend
from rein_jax.kernels.platforms import compiling_for
from rein_jax.planning import plan
from rein_jax.planning.gpus import GPUS

pytest.importorskip("jax_cuda13_plugin", reason="the extra gpu is not installed")
CONFIG = {"seed": 0, "train": {"steps": 10, "batch": 8}}


def test_hosts_and_gpus():
    devices, backend, limit = plan.devices_of("h100:2x4")
    assert len(devices) == 8 and backend == "gpu" and limit == int(0.92 * GPUS["h100"].memory)
    assert {device.process_index for device in devices} == {0, 1}


@pytest.mark.parametrize("topology", [f"{name}:1" for name in GPUS])
@pytest.mark.parametrize("length", [64, 65])
def test_attention_trains_through_cudnn(topology, length):
    """A class token makes the length odd, at which JAX refuses cuDNN's gradients as they are."""
    where = jax.sharding.SingleDeviceSharding(plan.devices_of(topology)[0][0])
    x = jax.ShapeDtypeStruct((2, length, 6, 64), jnp.bfloat16, sharding=where)
    total = lambda q, k, v: jnp.sum(attend(q, k, v).astype(jnp.float32))
    with compiling_for("gpu"):
        program = jax.jit(jax.grad(total, (0, 1, 2))).lower(x, x, x).compile().as_text()
    assert "cudnn$fmhaSoftmaxBackward" in program


def test_a_plan_for_several_gpus():
    def build(config, abstract):
        components = make_components(config)
        components.trainable, components.frozen = jax.eval_shape(lambda: (components.trainable, components.frozen))
        return components

    found = plan.plan(CONFIG, "h200:4", build=build, evaluate=False)
    assert found["chips"] == 4 and found["compute"] == "bfloat16" and found["train"]["fits"]
    assert found["train"]["images_per_chip"] == 2 and found["train"]["collectives"]["all-reduce"]["count"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [
    *(f"backbone={name}" for name in ("dinov2_s", "eva02_s", "clip_b", "mae_b", "sam_b", "resnet50", "convnext_l")),
    *(f"backbone=dinov2_s,method={name}" for name in ("full", "lora", "vpt", "adaptformer")),
    *(f"backbone=dinov2_s,augment={name}" for name in ("advstyle", "pasta", "gtr_ltr"))])
def test_bf16_steps_of_every_kind_can_be_traced(arguments, monkeypatch):
    """Training and evaluation step; what JAX refuses on a GPU it refuses here."""
    def lower(planner, images, function, *of):
        with compiling_for("gpu"):
            function.lower(*of)
        return {}

    monkeypatch.setattr(plan._Planner, "_compile", lower)
    config = configuration.load(f"configs/gta_to_cbm.py:{arguments}")
    found = plan.plan(config, "h200:1", batch=1, say=lambda text: None)
    assert found["compute"] == "bfloat16" and {"train", "evaluate"} <= found.keys()

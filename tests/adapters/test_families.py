"""Every method on every family of backbones: it fits, or is refused by name; merging is exact wherever kernels are stored."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx

from rein_jax import trees
from rein_jax.adapters import ADAPTERS
from rein_jax.adapters.merge import kernel_stacks, merge_adapters
from rein_jax.backbones.clip import CLIP
from rein_jax.backbones.convnext import ConvNeXt, ConvNeXtConfig
from rein_jax.backbones.dinov2 import DINOv2
from rein_jax.backbones.eva02 import EVA02, EVA02Config
from rein_jax.backbones.mae import MAE
from rein_jax.backbones.resnet import ResNet, ResNetConfig
from rein_jax.backbones.sam import SAM, SAMConfig
from rein_jax.backbones.vit import ViTConfig
from rein_jax.errors import UserError
from rein_jax.registry import load

FAMILIES = {
    "dinov2": (DINOv2, ViTConfig(24, 4, 3)),
    "dinov2_gated": (DINOv2, ViTConfig(24, 4, 3, registers=2, gated=True, hidden=32)),
    "eva02": (EVA02, EVA02Config(24, 4, 3, hidden=32)),
    "eva02_fused": (EVA02, EVA02Config(24, 4, 3, hidden=32, sub_norm=False)),
    "clip": (CLIP, ViTConfig(24, 4, 3)),
    "mae": (MAE, ViTConfig(24, 4, 3)),
    "sam": (SAM, SAMConfig(24, 4, 3, full=(1, 3), window=2, pretrained=4)),
    "convnext": (ConvNeXt, ConvNeXtConfig((1, 1, 3, 1), (16, 24, 32, 40))),
    "resnet": (ResNet, ResNetConfig((1, 2, 1, 1), (16, 24, 32, 40), 8)),
}
OPTIONS = {"rein": dict(num_tokens=5, rank=3, query_dims=8), "vpt": dict(num_tokens=3), "adaptformer": dict(hidden=4), "lora": dict(rank=2),
           "soma": dict(rank=2), "recyclelora": dict(main=2, sub=1)}  # fmt: skip
LINEARS = ("lora", "soma", "recyclelora")  # on ConvNeXt they need their targets named
REFUSED = {("sam", "vpt"), ("convnext", "vpt"), *(("resnet", method) for method in ("vpt", "adaptformer", *LINEARS))}
UNNAMED = {("convnext", method) for method in LINEARS}


class Net(nnx.Module):
    """A backbone with its adapters; calling it gives the four maps."""

    def __init__(self, family: str, method: str = "", *, rngs, **more):
        cls, sizes = FAMILIES[family]
        options = {} if family in ("convnext", "resnet") else {"out_indices": (0, 1, 2, 3)}
        self.backbone = cls(sizes, image_size=64, rngs=rngs, **options)
        kind = load(ADAPTERS, method, "adapter") if method else None
        options = {**OPTIONS.get(method, {}), **more}
        self.adapters = nnx.List([kind(spec, rngs=rngs, **options) for spec in self.backbone.block_specs] if method else [])

    def __call__(self, x):
        return self.backbone(x, tuple(self.adapters))


def options_for(family: str, method: str) -> dict:
    if family != "convnext":
        return {}
    both = {"targets": ("pwconv1", "pwconv2")}
    return {"soma": both, "recyclelora": both, "lora": {"targets": ("pwconv2",)}}.get(method, {})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", OPTIONS)
def test_a_method_fits_or_is_refused(family, method):
    if (family, method) in REFUSED | UNNAMED:
        with pytest.raises(UserError, match="another" if (family, method) in REFUSED else "among pwconv1, pwconv2"):
            nnx.eval_shape(lambda: Net(family, method, rngs=nnx.Rngs(0)))
        if (family, method) in REFUSED:
            return
    net = nnx.eval_shape(lambda: Net(family, method, rngs=nnx.Rngs(0), **options_for(family, method)))
    module_def, _, leaves = trees.split(net, ())
    plain = trees.flatten(nnx.eval_shape(lambda: Net(family, rngs=nnx.Rngs(0))))
    assert plain.keys() == {n for n in leaves if n.startswith("backbone/")}
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    maps = jax.eval_shape(lambda p, x: trees.merge(module_def, p)(x), leaves, image)
    assert [m.shape[-1] for m in maps] == list(net.backbone.out_channels)


HEAVY = [pytest.param(family, method, marks=pytest.mark.slow) for family in ("sam", "convnext", "eva02") for method in LINEARS[1:]]


@pytest.mark.parametrize("family, method", [("sam", "lora"), *HEAVY])
def test_merging_is_exact(family, method):
    """SAM keeps a stack for every run of equal blocks, ConvNeXt one a spec, EVA-02 separate q, k and v without a bias of k."""
    net = Net(family, method, rngs=nnx.Rngs(0), **options_for(family, method))
    module_def, _, leaves = trees.split(net, ())
    rng = np.random.default_rng(0)
    leaves = {n: np.asarray(a) + 0.1 * rng.standard_normal(a.shape).astype("f4") for n, a in leaves.items()}
    if method != "lora":
        leaves = type(net.adapters[0]).from_backbone(module_def, leaves)
    plain = trees.split(Net(family, rngs=nnx.Rngs(0)), ())[0]
    x = rng.standard_normal((1, 64, 64, 3)).astype("f4")
    run = lambda module_def, leaves: jax.jit(lambda p, x: trees.merge(module_def, p)(x))(leaves, x)
    frozen = {n: a for n, a in leaves.items() if n.startswith("backbone/")}
    if method != "lora":  # the start is the frozen net
        for a, b in zip(run(module_def, leaves), run(plain, frozen), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())
    moved = {n: a + (0.2 * rng.standard_normal(a.shape).astype("f4") if n.startswith("adapters/") and not n.endswith("0") else 0)
             for n, a in leaves.items()}  # fmt: skip
    merged = merge_adapters(module_def, moved)
    assert merged.keys() == frozen.keys() and any(np.abs(merged[n] - frozen[n]).max() > 0.01 for n in frozen)
    for a, b in zip(run(module_def, moved), run(plain, merged), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(np.asarray(b)).max())


def test_stacks_are_found_in_block_order():
    net = nnx.eval_shape(lambda: Net("sam", rngs=nnx.Rngs(0)))
    stacks = kernel_stacks(trees.flatten(net), net.backbone.block_specs[0], "fc1")
    assert stacks == [(f"backbone/runs/{i}/mlp/fc1/kernel", range(i, i + 1)) for i in range(4)]
    with pytest.raises(UserError, match="config.adapter.targets"):
        kernel_stacks({}, net.backbone.block_specs[0], "fc1")


def test_targets_from_a_command_line_are_names():
    net = nnx.eval_shape(lambda: Net("eva02", "lora", rngs=nnx.Rngs(0), targets="q, proj"))
    assert net.adapters[0].targets == ("q", "proj")

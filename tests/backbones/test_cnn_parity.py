"""ResNet and ConvNeXt against transformers on random weights, stage by stage."""

import re

import jax
import numpy as np
import pytest
from flax import nnx

from rein_jax import trees
from rein_jax.backbones import convnext, resnet
from tests.filling import Guests, assert_layers, filled, randomise, torch_arrays

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
RESNET = resnet.ResNetConfig((2, 1, 3, 2), (16, 32, 48, 64), stem=8)
CONVNEXT = convnext.ConvNeXtConfig((1, 2, 3, 1), (8, 16, 24, 32))


def images_of(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)


def compare(recorded, model, modules, make, stem, arrays, table, images):
    """The stem and the four maps; `stem(backbone, images)` gives ours."""
    expected = recorded(modules, lambda: model(torch.from_numpy(images.transpose(0, 3, 1, 2))))
    module_def, params = filled(lambda: Guests(make()), arrays, *table)

    def run(params, images):
        mine = trees.merge(module_def, params).backbone
        return [stem(mine, images), *mine(images)]

    outputs = jax.jit(run)(params, images)
    return assert_layers((name, y, value.transpose(0, 2, 3, 1)) for (name, value), y in zip(expected.items(), outputs, strict=True))


@pytest.fixture
def torch_resnet():
    widths, depths = list(RESNET.channels), list(RESNET.depths)
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=widths, depths=depths, layer_type="bottleneck")
    return transformers.ResNetModel(config)


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_resnet_with_hf_names(recorded, torch_resnet, size):
    model = randomise(torch_resnet)
    make = lambda: resnet.ResNet(RESNET, deep_stem=False, strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1), rngs=nnx.Rngs(0))
    assert nnx.eval_shape(make).patch == 32
    modules = {"stem": model.embedder, **{f"stage {i}": stage for i, stage in enumerate(model.encoder.stages)}}
    compare(recorded, model, modules, make, lambda b, x: b.stem(x), torch_arrays(model), resnet.formats(RESNET)["hf"], images_of(*size))


def test_resnet_v1c_dilated_with_official_names(recorded, torch_resnet):
    """The torch model gets V1c's stem, strides (1, 2, 1, 1) and dilations (1, 1, 2, 4), the first block of a stage at half of them."""
    nn, model = torch.nn, torch_resnet
    plan = ((3, 4, 2), (4, 4, 1), (4, 8, 1))
    stem = [m for a, b, s in plan for m in (nn.Conv2d(a, b, 3, s, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())]
    model.embedder.embedder = nn.Sequential(*stem)
    for stage, dilation in ((2, 2), (3, 4)):
        for number, block in enumerate(model.encoder.stages[stage].layers):
            rate = dilation if number else dilation // 2
            middle = block.layer[1].convolution
            middle.stride, middle.dilation, middle.padding = (1, 1), (rate, rate), (rate, rate)
            if number == 0:
                block.shortcut.convolution.stride = (1, 1)
    randomise(model)
    arrays = {official_name(name): value.numpy() for name, value in model.state_dict().items()}
    make = lambda: resnet.ResNet(RESNET, rngs=nnx.Rngs(0))
    assert nnx.eval_shape(make).patch == 8
    modules = {"stem": model.embedder, **{f"stage {i}": stage for i, stage in enumerate(model.encoder.stages)}}
    compare(recorded, model, modules, make, lambda b, x: b.stem(x), arrays, resnet.formats(RESNET)["official"], images_of(64, 40))


def official_name(name: str) -> str:
    """The name in mmseg's files of a parameter of the torch model."""
    name = name.replace("embedder.embedder.", "stem.")
    name = re.sub(r"encoder\.stages\.(\d)\.layers\.", lambda m: f"layer{int(m[1]) + 1}.", name)
    name = re.sub(r"layer\.(\d)\.convolution", lambda m: f"conv{int(m[1]) + 1}", name)
    name = re.sub(r"layer\.(\d)\.normalization", lambda m: f"bn{int(m[1]) + 1}", name)
    return name.replace("shortcut.convolution", "downsample.0").replace("shortcut.normalization", "downsample.1")


@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
def test_convnext_with_hf_names(recorded, size):
    config = transformers.ConvNextConfig(hidden_sizes=list(CONVNEXT.channels), depths=list(CONVNEXT.depths))
    model = randomise(transformers.ConvNextModel(config))
    make = lambda: convnext.ConvNeXt(CONVNEXT, rngs=nnx.Rngs(0))
    arrays = torch_arrays(model)
    for stage, width in enumerate(CONVNEXT.channels[:3]):  # the norms of the other stages: the identity would hide a mistake
        arrays[f"norm{stage}.weight"] = np.linspace(0.5, 1.5, width, dtype=np.float32)
        arrays[f"norm{stage}.bias"] = np.linspace(-0.2, 0.2, width, dtype=np.float32)
    rules, skip = convnext.FORMATS["hf"]
    table = (rules + tuple(r for r in convnext.FORMATS["mmpretrain"][0] if r.source.startswith("norm")), skip)
    last = (arrays["layernorm.weight"], arrays["layernorm.bias"])
    norms = [(arrays[f"norm{i}.weight"], arrays[f"norm{i}.bias"]) for i in range(3)] + [last]

    class Normed(torch.nn.Module):
        def __init__(self, weight, bias):
            super().__init__()
            self.weight, self.bias = torch.from_numpy(weight), torch.from_numpy(bias)

        def forward(self, x):
            y = torch.nn.functional.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-6)
            return y.permute(0, 3, 1, 2)

    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norms = torch.nn.ModuleList([Normed(*pair) for pair in norms])

        def forward(self, x):
            x = model.embeddings(x)
            for stage, norm in zip(model.encoder.stages, self.norms, strict=True):
                x = stage(x)
                norm(x)

    whole = Whole()
    modules = {"stem": model.embeddings, **{f"stage {i}": norm for i, norm in enumerate(whole.norms)}}
    compare(recorded, whole, modules, make, lambda b, x: b.downsample[0](x), arrays, table, images_of(*size))

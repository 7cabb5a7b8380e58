"""DINOv2 (with and without registers, with SwiGLU), CLIP and MAE against transformers, on random weights, layer by layer."""

import jax
import numpy as np
import pytest
from flax import nnx

from rein_jax import trees
from rein_jax.backbones.clip import CLIP, FORMATS
from rein_jax.backbones.dinov2 import DINOv2
from rein_jax.backbones.dinov2 import formats as dinov2_formats
from rein_jax.backbones.dinov3 import DINOv3
from rein_jax.backbones.dinov3 import formats as dinov3_formats
from rein_jax.backbones.mae import FORMATS as MAE_FORMATS
from rein_jax.backbones.mae import MAE
from rein_jax.backbones.vit import ViTConfig
from tests.filling import Guests, assert_layers, filled, randomise, torch_arrays

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
SIZE = dict(hidden_size=32, num_hidden_layers=4, num_attention_heads=2, patch_size=14)


def layers_of_ours(make, arrays, table, skip, images):
    """[embedding, block 0, ..., block 3] of our model with the arrays of the other one."""
    module_def, params = filled(lambda: Guests(make()), arrays, table, skip)

    def run(params, images):
        model = trees.merge(module_def, params).backbone
        return [model.embed(images)[0], *model.tokens(images)[0]]

    return jax.jit(run)(params, images)


def images_of(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)


def compare(recorded, make, model, blocks, embedding, table, skip, images, num_prefix_tokens="", **forward):
    theirs = recorded(
        {"embedding": embedding, **{f"block {i}": block for i, block in enumerate(blocks)}},
        lambda: model(torch.from_numpy(images.transpose(0, 3, 1, 2)), **forward),
    )
    ours = layers_of_ours(make, torch_arrays(model, num_prefix_tokens), table, skip, images)
    return assert_layers(zip(theirs, ours, theirs.values(), strict=True))


@pytest.mark.parametrize("kind", ["plain", "registers", "gated"])
@pytest.mark.parametrize("size", [(56, 56), (42, 70)])
def test_dinov2(recorded, kind, size):
    name = "Dinov2WithRegisters" if kind == "registers" else "Dinov2"
    extra = dict(use_swiglu_ffn=True) if kind == "gated" else {}
    model = randomise(getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**SIZE, image_size=56, **extra)))
    sizes = ViTConfig(32, 4, 2, registers=4 * (kind == "registers"), gated=kind == "gated", hidden=88 if kind == "gated" else None)
    make = lambda: DINOv2(sizes, patch=14, image_size=56, out_indices=(0, 1, 2, 3), interpolate_offset=0.0, rngs=nnx.Rngs(0))
    compare(recorded, make, model, model.encoder.layer, model.embeddings, *dinov2_formats(sizes)["hf"], images_of(*size))


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
def test_dinov3(recorded, gated, size):
    config = transformers.DINOv3ViTConfig(hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=96, image_size=64,
                                          patch_size=16, use_gated_mlp=gated, hidden_act="silu" if gated else "gelu", num_register_tokens=4)
    model = randomise(transformers.DINOv3ViTModel(config))
    model.rope_embeddings.inv_freq.copy_(1 / 100 ** torch.arange(0, 1, 0.25))  # no parameter: what `randomise` left there is undone
    sizes = ViTConfig(32, 4, 2, registers=4, gated=gated, hidden=96)
    make = lambda: DINOv3(sizes, image_size=64, out_indices=(0, 1, 2, 3), rngs=nnx.Rngs(0))
    compare(recorded, make, model, model.model.layer, model.embeddings, *dinov3_formats(sizes)["hf"], images_of(*size))


def test_clip(recorded):
    config = transformers.CLIPVisionConfig(**SIZE, image_size=56, intermediate_size=128)
    model = randomise(transformers.CLIPVisionModel(config))
    make = lambda: CLIP(ViTConfig(32, 4, 2), patch=14, image_size=56, out_indices=(0, 1, 2, 3), class_twice=False, rngs=nnx.Rngs(0))
    compare(recorded, make, model, model.encoder.layers, model.pre_layrnorm, *FORMATS["hf"], images_of(56, 56))


def test_clip_as_rein_uses_it():
    """The class embedding twice and bilinear positions, said in torch's own functions."""
    rng = np.random.default_rng(1)
    make = lambda: CLIP(ViTConfig(32, 4, 2), image_size=64, rngs=nnx.Rngs(0))
    module_def, _, shapes = trees.split(nnx.eval_shape(make), ())
    params = {name: rng.normal(size=s.shape).astype(np.float32) for name, s in shapes.items()}
    images = rng.normal(size=(1, 48, 80, 3)).astype(np.float32)
    ours = jax.jit(lambda p, x: trees.merge(module_def, p).embed(x)[0])(params, images)

    names = ("cls_token", "pos_embed", "patch_embed/kernel", "ln_pre/scale", "ln_pre/bias")
    cls, positions, kernel, scale, bias = (torch.from_numpy(params[name]) for name in names)
    patches = torch.nn.functional.conv2d(torch.from_numpy(images).permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), stride=16)
    grid = positions[:, 1:].reshape(1, 4, 4, 32).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, size=(3, 5), mode="bilinear", align_corners=False)
    tokens = torch.cat([cls + positions[:, :1] + cls, (patches + grid).flatten(2).transpose(1, 2)], 1)
    assert_layers([("embedding", ours, torch.nn.functional.layer_norm(tokens, (32,), scale, bias, 1e-5).numpy())])


def test_mae(recorded):
    model = randomise(transformers.ViTMAEModel(transformers.ViTMAEConfig(**SIZE, image_size=56, intermediate_size=128, mask_ratio=0.0)))
    make = lambda: MAE(ViTConfig(32, 4, 2), patch=14, image_size=56, out_indices=(0, 1, 2, 3), rngs=nnx.Rngs(0))
    order = torch.arange(16, dtype=torch.float32)[None].repeat(2, 1)  # keeps the patches in their order
    compare(recorded, make, model, model.layers, model.embeddings, *MAE_FORMATS["hf"], images_of(56, 56), noise=order)

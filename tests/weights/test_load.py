"""Strict loading, resizing while loading, recognition of wrong files."""

import jax
import numpy as np
import pytest

from rein_jax.backbones.pretrained import load_backbone
from rein_jax.errors import UserError
from rein_jax.weight_rules import Rule
from rein_jax.weights.hooks import Fit, patch, pos_embed, rel_pos
from rein_jax.weights.identify import identify, pretty
from rein_jax.weights.load import load_into
from rein_jax.weights.prefix import prefixes

RNG = np.random.default_rng(0)
RULES = (
    Rule("cls_token", "backbone/cls_token"),
    Rule("blocks.{layer}.w.weight", "backbone/blocks/w/kernel", "linear"),
    Rule("blocks.{layer}.q.bias", "backbone/blocks/qkv/bias", part=(0, 3)),
    Rule("", "backbone/blocks/qkv/bias", "zeros", part=(1, 3)),
    Rule("blocks.{layer}.v.bias", "backbone/blocks/qkv/bias", part=(2, 3)),
)
SHAPES = {
    "backbone/cls_token": jax.ShapeDtypeStruct((1, 1, 4), np.float32),
    "backbone/blocks/w/kernel": jax.ShapeDtypeStruct((2, 4, 5), np.float32),
    "backbone/blocks/qkv/bias": jax.ShapeDtypeStruct((2, 6), np.float32),
}
SKIP = (r"norm\..*",)


def file(**changes):
    out = {"cls_token": RNG.standard_normal((1, 1, 4)).astype(np.float16), "norm.weight": np.ones(4)}
    for i in range(2):
        out[f"blocks.{i}.w.weight"] = RNG.standard_normal((5, 4)).astype(np.float32)
        out[f"blocks.{i}.q.bias"], out[f"blocks.{i}.v.bias"] = np.full(2, 1 + i, np.float32), np.full(2, 3 + i, np.float32)
    out.update({name.replace("__", "."): array for name, array in changes.items()})
    return {name: array for name, array in out.items() if array is not None}


def test_loads_stacks_and_fills_parts():
    source = file()
    values, summary = load_into(SHAPES, source, RULES, SKIP)
    np.testing.assert_array_equal(values["backbone/blocks/w/kernel"][1], source["blocks.1.w.weight"].T)
    np.testing.assert_array_equal(values["backbone/blocks/qkv/bias"], [[1, 1, 0, 0, 3, 3], [2, 2, 0, 0, 4, 4]])
    assert values["backbone/cls_token"].dtype == np.float32
    assert summary.skipped == ["norm.weight"] and len(summary.loaded) == 7 and "7 arrays loaded" in str(summary)
    assert "skipped: norm.weight" in summary.details()


@pytest.mark.parametrize(("changes", "message"), [
    ({"extra": np.ones(2)}, "keys that this model does not know.*'extra'"),
    ({"blocks__1__w__weight": None}, "lacks what this model needs.*blocks/w/kernel"),
    ({"blocks__0__q__bias": None}, "lacks what this model needs.*qkv/bias"),
    ({"cls_token": None}, "lacks what this model needs.*cls_token"),
    ({"blocks__2__w__weight": np.ones((5, 4), np.float32)}, "layer 2, one more"),
    ({"blocks__1__w__weight": np.ones((4, 5), np.float32)}, "shape"),
    ({"cls_token": np.ones((1, 4), np.float32)}, "shape"),
    ({"cls_token": np.ones((1, 1, 4), np.int64)}, "int64"),
    ({"cls_token": np.full((1, 1, 4), np.nan)}, "'cls_token' holds values that are not finite"),
])
def test_strictness(changes, message):
    with pytest.raises(UserError, match=message):
        load_into(SHAPES, file(**changes), RULES, SKIP)


def test_key_set_twice_and_parameter_the_model_lacks():
    twice = (*RULES, Rule("class", "backbone/cls_token"))
    with pytest.raises(UserError, match="two keys for one parameter: 'cls_token', 'class'"):
        load_into(SHAPES, file(**{"class": np.ones((1, 1, 4), np.float32)}), twice, SKIP)
    with pytest.raises(UserError, match="no parameter: 'cls_token'"):
        load_into({n: s for n, s in SHAPES.items() if "cls" not in n}, file(), RULES, SKIP)


def test_fresh_parameters_are_left_out():
    shapes = {**SHAPES, "backbone/fpn/kernel": jax.ShapeDtypeStruct((2,), np.float32)}
    values, _ = load_into(shapes, file(), RULES, SKIP, fresh=(r"backbone/fpn/.*",))
    assert set(values) == set(SHAPES)


def test_prefix_is_found_and_other_parts_are_listed():
    source = {f"module.backbone.{name}": array for name, array in file().items()}
    source["module.head.weight"] = np.ones(3)
    assert "module.backbone." in prefixes(source, RULES)
    _, summary = load_into(SHAPES, source, RULES, SKIP, prefix="module.backbone.")
    assert summary.other_parts == ["module.head.weight"] and "1 of other parts" in str(summary)


def test_official_conversion(fixture_case):
    """Patch 14 -> 16 and position embedding 37x37 -> 32x32 and 64x64, as the official tool converts them."""
    inputs, outputs = fixture_case("convert_dinov2", "inputs"), fixture_case("convert_dinov2", "outputs")
    for size, grid in (("512", 32), ("1024", 64)):
        want = outputs[f"{size}:pos_embed[:,:,:8]"]
        got = pos_embed(inputs["pos_embed[:,:,:8]"], want.shape, Fit())
        np.testing.assert_allclose(got, want, atol=1e-6 * np.abs(want).max(), rtol=0)
        np.testing.assert_array_equal(pos_embed(inputs["pos_embed[:,:,:8]"], want.shape, Fit(grid=(grid, grid))), got)
        kernel, want = inputs["patch_embed.proj.weight[:8]"], outputs[f"{size}:patch_embed.proj.weight[:8]"]
        got = patch(kernel.transpose(2, 3, 1, 0), (16, 16, 3, 8), Fit()).transpose(3, 2, 0, 1)
        np.testing.assert_allclose(got, want, atol=1e-6 * np.abs(want).max(), rtol=0)


def test_position_embeddings_of_other_forms():
    tokens = RNG.standard_normal((1, 16, 8)).astype(np.float32)
    grown = pos_embed(tokens, (1, 26, 8), Fit())  # a file without the class token's row
    assert not grown[:, 0].any() and grown.shape == (1, 26, 8)
    oblong = pos_embed(np.concatenate([tokens[:, :1], tokens], 1), (1, 1 + 3 * 8, 8), Fit(grid=(3, 8)))
    np.testing.assert_array_equal(oblong[:, 0], tokens[:, 0])
    same = np.concatenate([tokens[:, :1], tokens], 1)
    assert not np.array_equal(pos_embed(same, same.shape, Fit(grid=(2, 8))), same)  # as many rows, another grid
    made = RNG.standard_normal((1, 19, 8)).astype(np.float32)
    np.testing.assert_array_equal(pos_embed(made, made.shape, Fit(grid=(3, 6))), made)
    assert pos_embed(tokens.reshape(1, 4, 4, 8), (1, 2, 6, 8), Fit()).shape == (1, 2, 6, 8)
    assert pos_embed(tokens[0].astype(np.float16), (25, 8), Fit()).dtype == np.float32
    assert rel_pos(tokens, (1, 9, 8), Fit()).shape == (1, 9, 8)
    with pytest.raises(UserError, match="not a square grid"):
        pos_embed(RNG.standard_normal((1, 60, 8)), (1, 26, 8), Fit())
    with pytest.raises(UserError, match="does not fit"):
        pos_embed(RNG.standard_normal((1, 17, 8)), (1, 28, 8), Fit(grid=(5, 5)))


def official_dinov2(width=384, depth=12, registers=False, patch_size=14):
    """Names and shapes of an official file (zeros without memory)."""
    zero = lambda *shape: np.broadcast_to(np.float32(0), shape)
    out = {"cls_token": zero(1, 1, width), "pos_embed": zero(1, 1370, width), "mask_token": zero(1, width),
           "patch_embed.proj.weight": zero(width, 3, patch_size, patch_size), "patch_embed.proj.bias": zero(width),
           "norm.weight": zero(width), "norm.bias": zero(width)}
    if registers:
        out["register_tokens"] = zero(1, 4, width)
    for i in range(depth):
        for name, shape in {"norm1": (width,), "norm2": (width,), "attn.qkv": (3 * width, width), "attn.proj": (width, width),
                            "mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}.items():
            out[f"blocks.{i}.{name}.weight"], out[f"blocks.{i}.{name}.bias"] = zero(*shape), zero(shape[0])
        out[f"blocks.{i}.ls1.gamma"], out[f"blocks.{i}.ls2.gamma"] = zero(width), zero(width)
    return out


@pytest.fixture(scope="module")
def small_shapes():
    from flax import nnx

    from rein_jax import registry, trees
    from rein_jax.backbones import BACKBONES

    def make(name):
        cls = registry.load(BACKBONES, name, "backbone")
        model = nnx.eval_shape(lambda: cls(name, rngs=nnx.Rngs(0)))
        return {f"backbone/{key}": spec for key, spec in trees.flatten(model).items()}

    return make


def test_a_whole_backbone_from_an_official_file(small_shapes):
    values, summary = load_backbone(official_dinov2(), "dinov2_vits14", small_shapes("dinov2_vits14"))
    assert len(summary.resized) == 2 and set(summary.skipped) == {"mask_token", "norm.weight", "norm.bias"}
    assert values["backbone/blocks/attn/qkv/kernel"].shape == (12, 384, 1152)


@pytest.mark.parametrize(("name", "source", "sentence"), [
    ("dinov2_vitl14", {"width": 768, "registers": True}, "looks like DINOv2 ViT-B/14 with registers; the config asks for DINOv2 ViT-L/14"),
    ("dinov2_vits14", {"width": 1024, "depth": 24}, "looks like DINOv2 ViT-L/14; the config asks for DINOv2 ViT-S/14"),
    ("dinov2_vits14", {"depth": 11}, "looks like DINOv2 ViT of width 384, depth 11, patch 14; the config asks for DINOv2 ViT-S/14"),
    ("dinov2_vits14_reg", {}, "looks like DINOv2 ViT-S/14; the config asks for DINOv2 ViT-S/14 with registers"),
])
def test_a_wrong_file_is_recognised(small_shapes, name, source, sentence):
    with pytest.raises(UserError, match=sentence):
        load_backbone(official_dinov2(**source), name, small_shapes(name))


@pytest.mark.parametrize(("names", "text"), [
    ({"visual.conv1.weight": (1024, 3, 14, 14), "visual.transformer.resblocks.23.ln_1.weight": (1024,), "positional_embedding": (77, 768)},
     "CLIP ViT-L/14"),
    ({"image_encoder.patch_embed.proj.weight": (1280, 3, 16, 16), "image_encoder.blocks.31.attn.rel_pos_h": (27, 80)}, "SAM ViT-H/16"),
    ({"patch_embed.proj.weight": (1024, 3, 16, 16), "blocks.23.attn.q_proj.weight": (1024, 1024), "blocks.0.attn.q_bias": (1024,)},
     "EVA-02 ViT-L/16"),
    ({"cls_token": (1, 1, 768), "patch_embed.proj.weight": (768, 3, 16, 16), "blocks.11.attn.qkv.weight": (2304, 768)},
     "MAE (or another plain) ViT-B/16"),
    ({"stem.0.weight": (32, 3, 3, 3), "layer1.0.conv3.weight": (1,), "layer3.22.conv1.weight": (1,), "layer4.0.conv1.weight": (1,)},
     "ResNet-101 (V1c)"),
    ({"backbone.stages.0.0.depthwise_conv.weight": (192, 1, 7, 7), "backbone.stages.2.26.norm.weight": (768,)}, "ConvNeXt-L"),
    ({"embeddings.patch_embeddings.weight": (1024, 3, 16, 16), "embeddings.register_tokens": (1, 4, 1024),
      "layer.23.attention.o_proj.weight": (1024, 1024)}, "DINOv3 ViT-L/16"),
    ({"reg_token": (1, 4, 384), "patch_embed.proj.weight": (384, 3, 16, 16), "blocks.11.gamma_1": (384,),
      "blocks.0.mlp.fc1_g.weight": (1,)}, "DINOv3 ViT-S+/16"),
    ({"backbone.reins.scale": ()}, "an official Rein checkpoint (adapter and head, no backbone)"),
])
def test_identify(names, text):
    assert identify(names).text == text


def test_names_for_people():
    assert identify({"foo": (2,)}) is None
    names = {"dinov2_vitl14_reg": "DINOv2 ViT-L/14 with registers", "dinov2_vitg14": "DINOv2 ViT-g/14", "clip_vitb16": "CLIP ViT-B/16",
             "dinov3_vith16plus": "DINOv3 ViT-H+/16", "eva02_l": "EVA-02 ViT-L", "sam_h": "SAM ViT-H", "resnet_50": "ResNet-50",
             "convnext_l": "ConvNeXt-L", "other": "other"}
    assert {name: pretty(name) for name in names} == names


def test_unknown_backbone():
    with pytest.raises(UserError, match="Did you mean 'dinov2_vits14'"):
        load_backbone({"a": np.ones(2)}, "dinov2_vits15", {})

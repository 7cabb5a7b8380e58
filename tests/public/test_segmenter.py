"""Models loaded, put together, used and saved through `rein_jax.Segmenter`."""

from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import rein_jax as rj
from rein_jax import trees
from rein_jax.backbones import dinov2
from rein_jax.backbones.resnet import ResNetConfig
from rein_jax.configuration import default
from rein_jax.weight_rules import unplace
from rein_jax.weights.modelfile import read_meta
from rein_jax.weights.safetensors_file import write_safetensors
from tests.use import tiny
from tests.use.tiny import write_tiny

SIZES = rj.backbones.ViTConfig(embed_dim=24, depth=4, num_heads=2)
SMALL = dict(channels=16, groups=4, heads=4, encoder_ffn=16, decoder_ffn=16, encoder_layers=1, decoder_layers=1)
REIN = dict(num_tokens=8, rank=2, query_dims=16)
NAMES = ["road", "car", "sky"]


def photo(seed: int = 0, height: int = 48, width: int = 80) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def composed(backbone=None, head=rj.LinearHead, **options) -> rj.Segmenter:
    backbone = backbone or rj.DINOv2(SIZES, image_size=64)
    adapter = rj.Rein(backbone, **REIN)
    return rj.Segmenter(backbone, head(backbone, num_classes=3, adapter=adapter, **options), adapter=adapter, classes=NAMES)


@pytest.fixture(scope="module")
def model() -> rj.Segmenter:
    return composed(head=rj.Mask2Former, **SMALL)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A file of a tiny DINOv2 in official names."""
    leaves = {f"backbone/{n}": np.asarray(a) for n, a in trees.flatten(rj.DINOv2("dinov2_tiny", image_size=64, rngs=nnx.Rngs(5))).items()}
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    arrays, uncovered = unplace(dinov2.formats("dinov2_tiny")["official"][0], leaves)
    assert not uncovered
    write_safetensors(path, {name: np.ascontiguousarray(array) for name, array in arrays.items()}, {})
    return path


def test_a_composed_model_is_saved_whole_and_predicts_the_same(model, tmp_path):
    file = model.save(tmp_path / "out")
    again = rj.Segmenter.from_pretrained(file)
    assert file == tmp_path / "out/model.safetensors" and again.classes == model.classes
    np.testing.assert_array_equal(again.predict(photo()).scores, model.predict(photo()).scores)
    assert again.config.adapter.to_dict() == {"name": "rein", **REIN} and again.num_params() == model.num_params()
    assert read_meta(file)["weights"]["source"] == "random"


def test_of_a_published_backbone_only_the_hash_is_saved(weights, tmp_path):
    backbone = rj.DINOv2.from_pretrained("dinov2_tiny", weights=weights, image_size=64)
    assert backbone.origin.source == str(weights) and len(backbone.origin.sha256) == 64
    model = composed(backbone)
    file = model.save(tmp_path / "small.safetensors")
    whole = model.save(tmp_path / "whole.safetensors", backbone=True)
    assert file.stat().st_size < whole.stat().st_size / 2
    for path in (file, whole):
        again = rj.Segmenter.from_pretrained(path)
        np.testing.assert_array_equal(again.predict(photo()).scores, model.predict(photo()).scores)
        assert again.backbone.origin == backbone.origin
    assert again.save(tmp_path / "again.safetensors").stat().st_size == file.stat().st_size
    model.backbone.cls_token[...] += 1.0  # trained in a loop of one's own: the file must hold it
    changed = rj.Segmenter.from_pretrained(model.save(tmp_path / "changed.safetensors"))
    np.testing.assert_array_equal(changed.backbone.cls_token[...], model.backbone.cls_token[...])
    with pytest.raises(rj.UserError, match="leave out backbone=False"):
        composed().save(tmp_path / "never.safetensors", backbone=False)


def test_the_variant_is_told_from_the_file(weights, tmp_path):
    backbone = rj.DINOv2.from_pretrained(weights, image_size=64)
    assert backbone.origin.name == "dinov2_tiny" and backbone.num_params() == rj.DINOv2("dinov2_tiny", image_size=64).num_params()
    with pytest.raises(rj.UserError, match="Unknown backbone 'dinov2_vitl15'. Did you mean .*vitl14.* does not exist either"):
        rj.DINOv2.from_pretrained("dinov2_vitl15")
    write_safetensors(tmp_path / "other.safetensors", {"a": np.ones(3, np.float32)}, {})
    with pytest.raises(rj.UserError, match="other.safetensors holds no DINOv2 that is known here"):
        rj.DINOv2.from_pretrained(tmp_path / "other.safetensors")
    assert rj.DINOv2.from_pretrained("dinov2_tiny", weights=None, image_size=64).origin is None


def test_any_kind_of_image(model, tmp_path):
    image = photo()
    cv2.imwrite(str(tmp_path / "street.png"), image[..., ::-1])
    expected = model.predict(image).labels
    assert expected.shape == (48, 80) and expected.dtype == np.uint8
    for given in (tmp_path / "street.png", str(tmp_path / "street.png"), Image.fromarray(image)):
        np.testing.assert_array_equal(model.predict(given).labels, expected)
    several = model.predict([tmp_path / "street.png", photo(1, 70, 33)])
    assert [one.labels.shape for one in several] == [(48, 80), (70, 33)] and several[0].name == "street"
    assert [one.labels.shape for one in model.predict(np.stack([image, image]))] == [(48, 80)] * 2
    for bad, said in ((image.astype(np.float32), "uint8 RGB of shape"), (image[..., 0], "uint8 RGB of shape"), (tmp_path, "is a folder")):
        with pytest.raises(rj.UserError, match=said):
            model.predict(bad)


def test_windows_are_the_runs_own_and_whole_images_on_request(tmp_path):
    model = rj.Segmenter.from_pretrained(write_tiny(tmp_path / "model.safetensors", crop=64))
    image = photo(3, 100, 130)
    assert model.config.eval.crop == 64
    windows, whole = model.predict(image), model.predict(image, whole=True)
    np.testing.assert_array_equal(windows.scores, model.predict(image, mode="slide", crop=64, stride=32).scores)
    assert np.abs(windows.scores - whole.scores).max() > 1e-3
    scores = jax.jit(lambda images: model.scores(images))(image[None])
    np.testing.assert_allclose(whole.scores, np.asarray(scores)[0], rtol=1e-5, atol=1e-5 * np.abs(scores).max())
    np.testing.assert_array_equal(whole.labels, whole.scores.argmax(-1))


def test_result(model, tmp_path):
    result = model.predict(photo())
    assert result.scores.shape == (48, 80, 3) and result.scores.dtype == np.float32
    assert np.abs(result.probabilities.astype(np.float32).sum(-1) - 1).max() < 1e-2 and result.confidence.shape == (48, 80)
    assert sum(result.shares.values()) == pytest.approx(1) and set(result.shares) <= set(NAMES) and "80x48" in repr(result)
    assert result.overlay(0.0).tolist() == result.image.tolist()
    files = result.save(tmp_path, "street", saves=("labels", "overlay", "probabilities"), ids="7,8,9")
    assert [str(file.relative_to(tmp_path)) for file in files] == ["labels/street.png", "overlay/street.png", "probabilities/street.npz"]
    np.testing.assert_array_equal(cv2.imread(str(files[0]), cv2.IMREAD_UNCHANGED), result.labels + 7)
    with pytest.raises(rj.UserError, match="Cannot save masks; choose among labels, overlay, probabilities"):
        result.save(tmp_path, saves=("masks",))


def test_model_of_a_config():
    config = tiny.tiny_config("lora", "linear")
    model = rj.Segmenter.from_config(config, NAMES)
    assert model.config.adapter.name == "lora" and model.classes.names == tuple(NAMES)
    assert model.predict(photo()).labels.max() < 3


def test_parts_that_do_not_fit_are_refused():
    backbone = rj.DINOv2(SIZES, image_size=64)
    with pytest.raises(rj.UserError, match="The head scores 3 classes, but classes= names 2"):
        rj.Segmenter(backbone, rj.LinearHead(backbone, num_classes=3), classes=["a", "b"])
    with pytest.raises(rj.UserError, match="queries have 256 channels and the head 16"):
        rj.Mask2Former(backbone, num_classes=3, adapter=rj.Rein(backbone, num_tokens=8, rank=2), **SMALL)
    with pytest.raises(rj.UserError, match="LinearHead needs a backbone, or in_channels="):
        rj.LinearHead(num_classes=3)
    with pytest.raises(rj.UserError, match="Mask2Former needs num_classes="):
        rj.Mask2Former(backbone)
    with pytest.raises(rj.UserError, match="final_norm"):
        rj.EoMT(backbone, num_classes=3)
    with pytest.raises(rj.UserError, match="An adapter needs a backbone, or embed_dim= and depth="):
        rj.Rein()
    with pytest.raises(rj.UserError, match="Linear declares no block_specs"):
        rj.Rein(nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
    with pytest.raises(rj.UserError, match="leave out one of the two"):
        rj.Rein(backbone, embed_dim=24, depth=4)


def test_every_stage_of_a_cnn_gets_an_adapter(tmp_path):
    sizes = ResNetConfig((1, 2, 2, 1), (16, 16, 32, 32), stem=8)
    backbone = rj.ResNet(sizes)
    adapter = rj.Rein(backbone, num_tokens=4, rank=2, link=False)
    head = rj.SemanticFPN(backbone, num_classes=3, channels=8, head_channels=8, groups=4)
    model = rj.Segmenter(backbone, head, adapter=adapter, classes=NAMES)
    assert len(model.adapters) == 4 and backbone.strides == (4, 8, 8, 8) and model.head.upsample == (False, True, True, True)
    again = rj.Segmenter.from_pretrained(model.save(tmp_path))
    np.testing.assert_array_equal(again.predict(photo()).scores, model.predict(photo()).scores)


def test_soma_begins_with_the_backbones_own_function():
    """Its factors are taken from the backbone's values when the parts are put together."""
    backbone = rj.DINOv2(SIZES, image_size=64, rngs=nnx.Rngs(3))
    head = rj.LinearHead(backbone, num_classes=3)
    plain = rj.Segmenter(backbone, head, classes=NAMES).predict(photo(), whole=True).scores
    model = rj.Segmenter(backbone, head, adapter=rj.SoMA(backbone, rank=2, start=0), classes=NAMES)
    assert np.abs(model.adapters[0].layers.qkv_a[...]).max() > 0
    np.testing.assert_allclose(model.predict(photo(), whole=True).scores, plain, atol=1e-5 * np.abs(plain).max())


def test_own_parts_have_to_be_registered_to_be_saved(tmp_path, registries):
    class Flat(rj.LinearHead):
        """A head of one's own."""

    backbone = rj.DINOv2(SIZES, image_size=64)
    model = rj.Segmenter(backbone, Flat(backbone, num_classes=3), classes=NAMES)
    assert model.predict(photo()).labels.shape == (48, 80)  # which needs no name
    with pytest.raises(rj.UserError, match=r"Flat is not registered.* rein_jax.register\('head', 'a name', Flat\)"):
        model.save(tmp_path)
    rj.register("head", "flat", Flat)
    again = rj.Segmenter.from_pretrained(model.save(tmp_path))
    assert type(again.head) is Flat
    with pytest.raises(rj.UserError, match="There is a head called 'linear' already"):
        rj.register("head", "linear", Flat)
    with pytest.raises(rj.UserError, match="Unknown kind of part 'heads'. Did you mean 'head'"):
        rj.register("heads", "flat", Flat)


def test_a_head_that_is_a_plain_module_works_but_is_not_saved(tmp_path, monkeypatch):
    class Plain(nnx.Module):
        def __init__(self, rngs):
            self.map = nnx.Linear(24, 3, rngs=rngs)

        def __call__(self, maps, queries=None, key=None):
            return {"logits": self.map(maps[2])}

        def scores(self, outputs, size):
            return jax.image.resize(outputs["logits"], (len(outputs["logits"]), *size, 3), "linear")

        def probabilities(self, scores):
            return jax.nn.softmax(scores)

    model = rj.Segmenter(rj.DINOv2(SIZES, image_size=64), Plain(nnx.Rngs(0)), classes=NAMES)
    assert model.predict(photo()).probabilities.shape == (48, 80, 3)
    monkeypatch.setitem(rj.heads.HEADS, "plain", Plain)
    with pytest.raises(rj.UserError, match="Plain does not derive from rein_jax.Head"):
        model.save(tmp_path)


def test_which_parameters_train(model):
    chosen = rj.trainable()
    names = {trees.name_of(path) for path, _ in nnx.to_flat_state(nnx.state(model, chosen))}
    assert {name.split("/")[0] for name in names} == {"adapters", "head"}
    assert model.num_params(chosen) == model.num_params() - model.backbone.num_params()
    assert model.num_params(rj.trainable("backbone/.*bias$")) > 0 and hash(chosen) == hash(rj.trainable("adapter", "head"))
    with pytest.raises(rj.UserError, match="'adaptor' matches no parameter; names begin with"):
        model.trainable("adaptor")
    with pytest.raises(rj.UserError, match=r"'\(' is not a valid regular expression"):
        rj.trainable("(")
    backbone = rj.DINOv2(SIZES, image_size=64)
    soma = rj.Segmenter(backbone, rj.LinearHead(backbone, num_classes=3), adapter=rj.SoMA(backbone, rank=2), classes=NAMES)
    assert not [path for path, _ in nnx.to_flat_state(nnx.state(soma, rj.trainable("adapter"))) if str(path[-1]).endswith("0")]


def test_the_default_window_follows_the_size_of_the_backbone(model):
    assert (model.config.eval.crop, model.config.eval.stride) == (64, 42)
    assert set(model.config.eval.to_dict()) == set(default().eval.to_dict())

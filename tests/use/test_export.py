"""`rein export`: what was exported equals JAX, at any batch size; a wrong program leaves no file."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import camvid_dinov2s
from data_pipelines.labels import CITYSCAPES
from rein_jax import build, trees
from rein_jax.cli.main import main
from rein_jax.errors import UserError
from rein_jax.evaluation.windows import Predictor
from rein_jax.export import Plan, export_model, run, stablehlo, to_onnx
from rein_jax.export.program import slide
from rein_jax.kernels import deformable
from rein_jax.segmenter import pad_to
from rein_jax.weights import fetch
from tests.use.tiny import tiny_model


def test_stablehlo_of_windows_equals_the_predictor(model_file, tmp_path, capsys):
    out = tmp_path / "slide.stablehlo"
    arguments = ["--to", "stablehlo", "--size", "64x96", "--slide", "64", "--stride", "32", "--out", str(out)]
    assert main(["export", str(model_file), *arguments]) == 0
    printed = capsys.readouterr().out
    assert "largest deviation" in printed and "images per second" in printed and "MB" in printed
    facts = json.loads((tmp_path / "slide.stablehlo.json").read_text())
    assert facts["adapters"].startswith("merged") and facts["classes"][0] == "road" and facts["bytes"] == out.stat().st_size
    images = run.sample(2, (64, 96))
    module_def, params, _ = build.load_parts(model_file)
    predictor = Predictor(module_def, params, classes=19, window=64, stride=32)
    labels = stablehlo.read(out)(images)
    assert np.mean([labels[i] == predictor(images[i]) for i in range(2)]) > 0.999


@pytest.mark.slow
def test_several_sizes_and_resize(model_file, tmp_path):
    assert main(["export", str(model_file), "--to", "stablehlo", "--size", "48", "32x64", "--resize", "64", "--no-merge",
                 "--output", "probabilities", "--out", str(tmp_path / "m")]) == 0
    call = stablehlo.read(tmp_path / "m-32x64.stablehlo")
    found = call(run.sample(1, (32, 64)))
    assert found.shape == (1, 32, 64, 19) and (tmp_path / "m-48x48.stablehlo").exists()
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("head, size", [("linear", (64, 64)), ("linear", (90, 160)), ("mask2former", (64, 96)), ("mask2former", (90, 100))])
def test_onnx(head, size, tmp_path):
    """Sides that are no multiples of the patch; Mask2Former at a size whose 126 deformable queries are read in two parts."""
    pytest.importorskip("jax2onnx")
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    facts = export_model(tiny_model("rein", head), "onnx", Plan(size, "scores"), tmp_path / "m", seconds=0.1)
    assert max(facts["largest_deviation"].values()) < 1e-4 and facts["adapters"] == "as they are"
    model = onnx.load(tmp_path / "m.onnx")
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param and model.metadata_props[0].key == "rein"


@pytest.mark.parametrize("sizes", [((4, 4), (8, 8), (16, 16)), ((2, 3), (4, 6), (8, 12))])
def test_onnx_of_deformable_attention_in_parts(sizes, tmp_path):
    """A batch of unknown size inside a loop over parts of the queries, which jax2onnx got wrong in an earlier form of ours."""
    pytest.importorskip("jax2onnx")
    pytest.importorskip("onnxruntime")
    heads, points, queries = 8, 4, sum(h * w for h, w in sizes)
    assert 1 < queries // deformable._queries_at_once(queries, 4 * heads * len(sizes) * points, 2**15)
    spread = np.random.default_rng(0).uniform(0, 4, (heads, len(sizes), points, 2)).astype("f4")

    def run(images):  # uint8 [B, queries, 4 * heads, 3]
        x = images[..., 0].astype(jnp.float32) / 255
        value = x.reshape(-1, queries, heads, 4)
        places = 0.5 + 0.7 * jnp.sin(9 * value[:, :, :, None, None, :2] + spread)  # some outside the maps
        weights = jax.nn.softmax(value[:, :, :, :1, None] * spread[..., 0], axis=-1)
        return deformable.deformable_sum(value, sizes, places, weights).reshape(x.shape)

    to_onnx.write(run, (queries, 4 * heads), tmp_path / "m.onnx", "out", {})
    call = to_onnx.read(tmp_path / "m.onnx")
    for batch in (1, 3):
        images = np.random.default_rng(batch).integers(0, 256, (batch, queries, 4 * heads, 3), np.uint8)
        np.testing.assert_allclose(call(images), run(images), atol=1e-4)


class Smooth:
    """In place of a model: pads to whole patches as a Segmenter does, and again for a convolution."""

    def scores(self, x):
        height, width = x.shape[1:3]
        padded = jnp.pad(pad_to(x.astype(jnp.float32) / 255, 16), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=0.5)
        return jnp.tanh(padded[:, 2:] + padded[:, :-2])[:, :height, :width]


@pytest.mark.parametrize("window", [None, ((16, 16), (11, 11))])
@pytest.mark.parametrize("to", ["onnx", "stablehlo"])
def test_sides_that_are_no_multiple_of_the_patch(to, window, tmp_path):
    """20 x 26, padded inside, whole or in windows, at a free batch size; and what the program does not take."""
    if to == "onnx":
        pytest.importorskip("jax2onnx")
        pytest.importorskip("onnxruntime")
    path = tmp_path / f"m.{to}"
    run_it = lambda images: slide(Smooth(), images, *window) if window else Smooth().scores(images)
    to_onnx.write(run_it, (20, 26), path, "out", {}) if to == "onnx" else stablehlo.write(run_it, (20, 26), path)
    call = (to_onnx if to == "onnx" else stablehlo).read(path)
    for batch in (1, 3):
        images = run.sample(batch, (20, 26))
        np.testing.assert_allclose(call(images), run_it(images), atol=1e-6)
    for wrong in (images[:0], images[:, :-1], images[..., :2], images[0], images.astype(np.float32)):
        with pytest.raises(UserError, match=r"takes images uint8 \[B, 20, 26, 3\] with one image or more"):
            call(wrong)


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), AssertionError(), jax.errors.InconclusiveDimensionOperation("Symbolic\nB")])
def test_a_converter_that_fails_is_one_sentence(error, tmp_path, monkeypatch):
    library = pytest.importorskip("jax2onnx")
    monkeypatch.setattr(library, "to_onnx", lambda *_, **__: (_ for _ in ()).throw(error))
    with pytest.raises(UserError, match="jax2onnx cannot convert this model .*--to stablehlo") as caught:
        to_onnx.write(lambda images: images, (16, 16), tmp_path / "m.onnx", "out", {})
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "stablehlo"])
def test_real_backbone(to, tmp_path):
    """DINOv2-S as published, Rein and the Mask2Former of configs/camvid_dinov2s.py, at two sizes."""
    pytest.importorskip("jax2onnx")
    pytest.importorskip("onnxruntime")
    if fetch.cached("dinov2_vits14") is None:
        pytest.skip("needs the weights dinov2_vits14 in REIN_CACHE")
    module_def, trainable, frozen, _ = build.build_params(camvid_dinov2s.get_config(), CITYSCAPES)
    model = trees.merge(module_def, {**trainable, **frozen})
    for size in ((112, 112), (96, 160)):
        facts = export_model(model, to, Plan(size, "scores"), tmp_path / "m", seconds=0.1)
        assert max(facts["largest_deviation"].values()) < 1e-4


def test_a_program_that_differs_is_not_kept(model_file, tmp_path, monkeypatch):
    wrong = lambda path: lambda images: np.zeros((len(images), 64, 64), np.uint8)
    monkeypatch.setattr(stablehlo, "read", wrong)
    with pytest.raises(UserError, match="differs from JAX"):
        export_model(model_file, "stablehlo", Plan((64, 64)), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("plan, word", [
    (Plan((64, 64), window=(128, 128), stride=(64, 64)), "fit into"),
    (Plan((64, 64), window=(60, 60), stride=(30, 30)), "multiple"),
    (Plan((64, 64), window=(64, 64), stride=(65, 1)), "stride"),
    (Plan((64, 64), "depth"), "depth"),
    (Plan((4, 64)), "at least 8"),
])  # fmt: skip
def test_plans_that_do_not_fit(plan, word, tmp_path):
    with pytest.raises(UserError, match=word):
        plan.check(16)


def test_mistakes(model_file, tmp_path, capsys):
    assert main(["export", str(model_file), "--to", "stablehlo", "--size", "big"]) == 2
    assert "is not a size" in capsys.readouterr().err
    (tmp_path / "bad.stablehlo").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a program"):
        stablehlo.read(tmp_path / "bad.stablehlo")
    with pytest.raises(UserError, match="merge"):
        export_model(tiny_model("rein"), "stablehlo", Plan((64, 64)), tmp_path / "m", merge=True)

"""An official Rein checkpoint (random weights) from file to label map, as the official code computed it, and back to its own names."""

import jax
import numpy as np
import pytest
from flax import nnx

from rein_jax import trees
from rein_jax.adapters.rein import Rein
from rein_jax.backbones import dinov2
from rein_jax.backbones.vit import ViTConfig
from rein_jax.evaluation.windows import Predictor
from rein_jax.heads.mask2former import Mask2Former
from rein_jax.interop.rein import export_official, import_official
from rein_jax.segmenter import SegmentationModel
from rein_jax.weights.load import load_into
from tests.recorded import weights

CASE, SIZES = "e2e_rein_dinov2", ViTConfig(96, 4, 3)


def make():
    rngs = nnx.Rngs(0)
    backbone = dinov2.DINOv2(SIZES, rngs=rngs, image_size=64, out_indices=(0, 1, 2, 3))
    adapter = Rein(backbone, rngs=rngs, num_tokens=20, rank=8, query_dims=64)
    small = {"num_queries": 20, "channels": 64, "encoder_layers": 2, "encoder_ffn": 128, "decoder_ffn": 128}
    head = Mask2Former(backbone, 19, adapter=adapter, rngs=rngs, **small)
    return SegmentationModel(backbone, head, adapter=adapter)


@pytest.fixture(scope="module")
def model():
    """(module_def, parameters, the official arrays)."""
    official = weights(CASE)
    module_def, _, shapes = trees.split(nnx.eval_shape(make), ())
    trained, _ = import_official(official, shapes={n: s for n, s in shapes.items() if not n.startswith("backbone/")})
    frozen = {k.removeprefix("backbone."): v for k, v in official.items() if k.startswith("backbone.") and ".reins." not in k}
    rules, skip = dinov2.formats(SIZES)["official"]
    values, _ = load_into({n: s for n, s in shapes.items() if n.startswith("backbone/")}, frozen, rules, skip)
    return module_def, {**trained, **values}, official


@pytest.mark.parametrize("batch", [1, 8])
def test_slide_from_the_image_to_the_label_map(model, batch, fixture_case):
    image = np.ascontiguousarray(fixture_case(CASE, "inputs")["image_uint8_BGR_HWC"][..., ::-1])
    predictor = Predictor(*model[:2], classes=19, window=64, stride=43, batch=batch)
    assert np.array_equal(predictor(image, (144, 240)), fixture_case(CASE, "outputs")["argmax_144x240"])


def test_whole_image_scores(model, fixture_case):
    image = np.ascontiguousarray(fixture_case(CASE, "inputs")["image_uint8_BGR_HWC"][..., ::-1])
    scores = jax.jit(lambda params, images: trees.merge(model[0], params).scores(images))(model[1], image[None])
    wanted = fixture_case(CASE, "outputs")["whole_logits_96x160_every4thclass"].transpose(1, 2, 0)
    assert np.abs(np.asarray(scores)[0, ..., ::4] - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_export_gives_the_official_arrays_back(model, tmp_path):
    module_def, params, official = model
    trained = {n: a for n, a in params.items() if not n.startswith("backbone/")}
    export_official(trained, tmp_path / "out.pth")
    again, _ = import_official(tmp_path / "out.pth", shapes=trained)
    exported = export_official(trained)
    assert all(np.array_equal(again[n], trained[n]) for n in trained)
    ours = {k for k in official if k.startswith("decode_head.") or ".reins." in k}
    assert exported.keys() == ours and all(np.array_equal(exported[k], official[k]) for k in ours)

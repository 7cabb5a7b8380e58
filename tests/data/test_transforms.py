"""Training transforms against the original's outputs with its recorded random draws, and their own invariants."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines import transforms as tf
from data_pipelines.errors import DataError
from rein_jax import datasets
from rein_jax.errors import UserError

META = json.loads((Path(__file__).parents[1] / "fixtures" / "transforms" / "meta.json").read_text())


class Recorded:
    """Stands in for a Generator and hands out recorded numpy.random draws, checking that the same ones are asked for."""

    def __init__(self, draws):
        self.draws = list(draws)

    def take(self, kind, *args):
        name, recorded, value = self.draws.pop(0)
        assert name == kind
        assert args == () or [float(a) for a in args] == [float(a) for a in recorded]
        return value

    def integers(self, *args):
        return self.take("randint", *args)

    def uniform(self, *args):
        return self.take("uniform", *args)

    def random(self):
        return 0.0 if self.take("choice") == "horizontal" else 1.0


@pytest.fixture(scope="module")
def arrays(fixture_case):
    return fixture_case("transforms", "inputs"), fixture_case("transforms", "outputs")


def rgb(image):
    return np.ascontiguousarray(image[..., ::-1])


@pytest.mark.parametrize("case", [f"pipe{i}" for i in range(10)])
def test_every_stage_equals_the_original(case, arrays):
    inputs, outputs = arrays
    draws = META[case]["draws"]
    image, label = rgb(inputs[f"{case}_img"]), inputs[f"{case}_seg"]
    resize = tf.ShortestEdge.official(64)
    image, label = tf.resize_pair(image, label, resize.draw(Recorded(draws["resize"]), *label.shape))
    np.testing.assert_array_equal(image, rgb(outputs[f"{case}_resize_img"]))
    np.testing.assert_array_equal(label, outputs[f"{case}_resize_seg"])
    recorded = Recorded(draws["crop"])
    top, left, height, width = tf.draw_crop(recorded, label, (64, 64), 0.75)
    assert not recorded.draws
    image, label = (a[top : top + height, left : left + width] for a in (image, label))
    np.testing.assert_array_equal(image, rgb(outputs[f"{case}_crop_img"]))
    np.testing.assert_array_equal(label, outputs[f"{case}_crop_seg"])
    recorded = Recorded(draws["photo"])
    drawn = tf.Photometric().draw(recorded)
    assert not recorded.draws
    flipped = rgb(outputs[f"{case}_flip_img"])
    np.testing.assert_array_equal(tf.photometric(flipped, drawn), rgb(outputs[f"{case}_photo_img"]))


@pytest.mark.parametrize("case", [f"pipe{i}" for i in range(10)])
def test_whole_transform_equals_the_original(case, arrays):
    inputs, outputs = arrays
    draws = META[case]["draws"]
    rng = Recorded(sum((draws[stage] for stage in ("resize", "crop", "flip", "photo")), []))
    out = tf.TrainTransform(crop=64)(rgb(inputs[f"{case}_img"]), inputs[f"{case}_seg"], rng)
    height, width = outputs[f"{case}_flip_seg"].shape
    assert not rng.draws and tuple(out["size"]) == (height, width)
    np.testing.assert_array_equal(out["image"][:height, :width], rgb(outputs[f"{case}_photo_img"]))
    np.testing.assert_array_equal(out["label"][:height, :width], outputs[f"{case}_flip_seg"])
    assert out["image"].shape == (64, 64, 3) and not out["image"][height:].any() and not out["image"][:, width:].any()
    assert (out["label"][height:] == 255).all() and (out["label"][:, width:] == 255).all()


@pytest.mark.parametrize("case", [f"photo{i}" for i in range(16)])
def test_photometric_equals_the_original(case, arrays):
    inputs, outputs = arrays
    recorded = Recorded(META[case]["draws"])
    drawn = tf.Photometric().draw(recorded)
    assert not recorded.draws
    np.testing.assert_array_equal(tf.photometric(rgb(inputs["photo_img"]), drawn), rgb(outputs[case]))


@pytest.mark.parametrize("case", [f"crop{i}" for i in range(8)])
def test_crop_rule_equals_the_original(case, arrays):
    inputs, outputs = arrays
    recorded = Recorded(META[case]["draws"])
    top, left, height, width = tf.draw_crop(recorded, inputs["crop_seg"], (48, 48), 0.75)
    assert not recorded.draws
    np.testing.assert_array_equal(inputs["crop_seg"][top : top + height, left : left + width], outputs[f"{case}_seg"])
    np.testing.assert_array_equal(inputs["crop_img"][top : top + height, left : left + width], outputs[f"{case}_img"])


def test_sizes_equal_the_original_table(arrays):
    for height, width, edge, limit, *_, tall, wide in arrays[1]["shortest_edge_table"].tolist():
        assert tf.shortest_edge_size(height, width, edge, limit) == (tall, wide)


@pytest.mark.parametrize("case", [f"resize{i}" for i in range(4)])
def test_resize_equals_the_original(case, arrays):
    inputs, outputs = arrays
    settings_ = META[case]
    wide, tall = settings_["scale_wh"]
    size = tf.keep_ratio_size(*settings_["in_hw"], wide, tall) if settings_["keep_ratio"] else (tall, wide)
    assert list(size) == settings_["out_hw"]
    image, label = tf.resize_pair(inputs[f"{case}_img"], inputs[f"{case}_seg"], size)
    np.testing.assert_array_equal(image, outputs[f"{case}_img"])
    np.testing.assert_array_equal(label, outputs[f"{case}_seg"])


def test_padding_equals_the_original_preprocessor(fixture_case):
    """The model normalises the padded uint8 image and zeroes what lies outside `size`: the same as padding afterwards."""
    inputs, outputs = fixture_case("data_preprocessor", "inputs"), fixture_case("data_preprocessor", "outputs")
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    for i in range(2):
        image = rgb(inputs[f"img{i}_BGR_CHW"].transpose(1, 2, 0))
        padded, label = tf.pad_pair(image, inputs[f"gt{i}"].astype(np.uint8), (48, 64))
        normal = ((padded - mean) / std).astype(np.float32)
        normal[image.shape[0] :], normal[:, image.shape[1] :] = 0, 0
        np.testing.assert_allclose(normal.transpose(2, 0, 1), outputs["train_inputs"][i], atol=1e-6)
        np.testing.assert_array_equal(label, outputs["train_gt"][i])


def encoded_pair(height, width, seed):
    """Blocks of label values, and an image whose red channel is ten times the label."""
    blocks = np.random.default_rng(seed).integers(0, 19, (height // 8 + 1, width // 8 + 1), np.uint8)
    label = blocks.repeat(8, 0).repeat(8, 1)[:height, :width]
    return np.stack([label * 10, label * 10, label * 10], -1), np.ascontiguousarray(label)


@settings(max_examples=25)
@given(st.integers(20, 150), st.integers(20, 150), st.integers(0, 2**31), st.integers(24, 64))
def test_label_follows_its_image(height, width, seed, crop):
    image, label = encoded_pair(height, width, seed)
    edges = tf.ShortestEdge((2 * min(height, width),), 10**6)  # doubling: bilinear keeps block interiors exact
    out = tf.TrainTransform(crop, edges, photometric=None)(image, label, np.random.default_rng(seed))
    assert out["image"].shape == (crop, crop, 3) and out["label"].shape == (crop, crop)
    tall, wide = out["size"]
    image, label = out["image"][:tall, :wide, 0], out["label"][:tall, :wide]
    around = np.ones((3, 3), np.uint8)
    inner = cv2.dilate(label, around) == cv2.erode(label, around)  # neighbours of another class blur into a pixel
    inner[[0, -1]], inner[:, [0, -1]] = False, False  # and so do neighbours that the crop cut off
    assert inner.any()
    np.testing.assert_array_equal(image[inner], label[inner] * 10)


@settings(max_examples=25)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**31))
def test_same_draws_same_pixels_on_any_size(height, width, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    label = rng.choice(np.array([0, 3, 18, 255], np.uint8), (height, width))
    first, second = (tf.TrainTransform(32)(image, label, np.random.default_rng(seed)) for _ in range(2))
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])
    assert set(np.unique(first["label"])) <= {0, 3, 18, 255}


def test_crop_takes_the_eleventh_box_unchecked_and_one_means_no_rule():
    class Counting:
        calls = 0

        def integers(self, low, high):
            self.calls += 1
            return low

    plain = np.zeros((20, 20), np.uint8)
    rng = Counting()
    assert tf.draw_crop(rng, plain, (8, 8), 0.75) == (0, 0, 8, 8) and rng.calls == 22
    rng = Counting()
    tf.draw_crop(rng, plain, (8, 8), 1)
    assert rng.calls == 2
    rng = Counting()
    tf.draw_crop(rng, np.full((20, 20), 255, np.uint8), (8, 8), 0.75)
    assert rng.calls == 22


def test_photometric_tables_equal_plain_arithmetic():
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    out = tf.photometric(image, tf.PhotometricDraw(brightness=20.3, contrast=1.21))
    steps = np.clip(image.astype(np.float32) + np.float32(20.3), 0, 255).astype(np.uint8)
    steps = np.clip(steps.astype(np.float32) * np.float32(1.21), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(out, steps)


def test_random_resize_fits_inside_the_scaled_box():
    draw = tf.RandomResize((2048, 1024), (0.5, 2.0)).draw
    for seed in range(20):
        height, width = draw(np.random.default_rng(seed), 1052, 1914)
        assert 512 <= height <= 2048 and abs(width / height - 1914 / 1052) < 2e-3


def test_the_config_names_every_resize():
    assert datasets.make_resize("none") is None and datasets.make_resize("official") == "official"
    edges = datasets.make_resize("128:320")
    assert (edges.edges[0], edges.edges[-1], len(edges.edges), edges.max_size) == (128, 320, 16, 1280)
    assert datasets.make_resize("2048x1024:0.5:2") == tf.RandomResize((2048, 1024), (0.5, 2.0))
    for wrong in ("256", "512:256", "0:128", "2048x1024", "2048x1024:2:0.5", "20x10:0.05:1", "x"):
        with pytest.raises(UserError, match="config.data.resize is .*2048x1024:0.5:2"):
            datasets.make_resize(wrong)


def test_bad_settings_and_pairs_are_named():
    with pytest.raises(DataError, match="crop"):
        tf.TrainTransform(crop=(0, 4))
    with pytest.raises(DataError, match="resize"):
        tf.TrainTransform(resize="offical")
    with pytest.raises(DataError, match="5x4 and 4x5"):
        tf.TrainTransform(8)(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint8), np.random.default_rng(0))


@pytest.mark.parametrize("size", [(8, 8), (9, 200), (300, 10), (15, 640), (14, 14), (63, 65)])
def test_small_and_long_pictures_become_examples(size):
    rng = np.random.default_rng(3)
    image, label = rng.integers(0, 256, (*size, 3), np.uint8), rng.integers(0, 3, size, np.uint8)
    for _ in range(5):
        example = tf.TrainTransform(crop=64)(image, label, rng)
        height, width = example["size"]
        assert example["image"].shape == (64, 64, 3) and 1 <= min(height, width) and max(height, width) <= 64
        assert (example["label"][:height, :width] < 3).all() and (example["label"][height:] == 255).all()
        assert (example["label"][:, width:] == 255).all()

"""Corruptions of ImageNet-C and Cityscapes-C: what their definitions say, and that they depend on nothing but their names."""

import pickle

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines import corruption_ops as ops
from data_pipelines import corruption_weather as weather
from data_pipelines.corruptions import CORRUPTIONS, FAMILIES, SUITES, Corrupted, corrupt, suite
from data_pipelines.errors import DataError


def scene(height=64, width=96, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


class Scenes:
    name, domain, classes, has_labels, policy, split, found = "cityscapes", "clear", None, True, "raise", "val", "folders"
    problems: dict[str, str] = {}

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return {"image": scene(seed=i), "label": scene(seed=i)[..., 0] % 19, "name": f"{i}"}

    def fingerprint(self):
        return "scenes"


def rng():
    return np.random.default_rng(0)


def grey(value=0.5, size=(128, 128)):
    return np.full((*size, 3), value, np.float32)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_is_deterministic_and_grows(name):
    image, label = scene(), scene()[..., 0] % 19
    before = image.copy()
    for severity in (1, 5):
        first, kept = corrupt(image, label, name, severity, element=4)
        second, _ = corrupt(image, label, name, severity, element=4)
        np.testing.assert_array_equal(first, second)
        assert first.shape == image.shape and first.dtype == np.uint8 and (first != image).any()
        assert kept.shape == label.shape and kept.dtype == np.uint8
        if name != "elastic_transform":
            assert kept is label
    np.testing.assert_array_equal(image, before)
    assert corrupt(image, None, name, 1)[1] is None


@pytest.mark.parametrize(
    "name", sorted(set(CORRUPTIONS) - {"elastic_transform", "saturate", "glass_blur", "snow", "frost", "spatter"})
)
def test_severity_moves_pixels_further(name):
    image = scene(96, 128)
    distance = [np.abs(corrupt(image, None, name, s)[0].astype(int) - image).mean() for s in (1, 5)]
    assert distance[0] < distance[1]


def test_random_ones_depend_on_seed_and_element():
    for name in ("gaussian_noise", "glass_blur", "motion_blur", "snow", "frost", "fog", "spatter", "elastic_transform"):
        pictures = [corrupt(scene(), None, name, 3, seed=s, element=e)[0] for s, e in ((0, 0), (0, 1), (1, 0))]
        assert (pictures[0] != pictures[1]).any() and (pictures[0] != pictures[2]).any(), name


def test_noise_has_the_stated_strength():
    assert (ops.gaussian_noise(grey(), rng(), 0.18) - 0.5).std() == pytest.approx(0.18, rel=0.02)
    assert (ops.speckle_noise(grey(), rng(), 0.4) - 0.5).std() == pytest.approx(0.2, rel=0.02)
    shot = ops.shot_noise(grey(), rng(), 12)
    assert shot.mean() == pytest.approx(0.5, rel=0.01) and shot.var() == pytest.approx(0.5 / 12, rel=0.03)
    impulse = ops.impulse_noise(grey(), rng(), 0.2)
    assert (impulse == 0).mean() == pytest.approx(0.1, abs=0.01) and (impulse == 1).mean() == pytest.approx(0.1, abs=0.01)
    assert ((impulse == 0.5) | (impulse == 0) | (impulse == 1)).all()


def test_defocus_is_a_disk():
    point = np.zeros((41, 41, 3), np.float32)
    point[20, 20] = 1
    spread = ops.defocus_blur(point, rng(), 6, 0.5)[..., 0]
    y, x = np.mgrid[-20:21, -20:21]
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    inside, outside = spread[y**2 + x**2 < 20], spread[y**2 + x**2 > 80]
    np.testing.assert_allclose(inside, inside[0], rtol=1e-4)
    assert outside.max() < 1e-6


def test_motion_blur_is_the_weighted_sum_of_shifts():
    image = scene().astype(np.float32) / 255
    radius, sigma, angle = 5, 3, 30.0
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    total, padded = 0, np.pad(image, ((16, 16), (16, 16), (0, 0)), mode="edge")
    for i, weight in enumerate(weights / weights.sum()):
        dx, dy = (int(np.ceil(i * f(np.deg2rad(angle)) - 0.5)) for f in (np.cos, np.sin))
        total = total + weight * padded[16 + dy : 16 + dy + 64, 16 + dx : 16 + dx + 96]
    np.testing.assert_allclose(ops.motion_blurred(image, radius, sigma, angle), total, atol=1e-5)


def test_glass_blur_only_moves_pixels_and_not_far():
    ramp = np.repeat(np.repeat((np.arange(60, dtype=np.float32) / 255)[None, :, None], 40, 0), 3, 2)
    moved = ops.glass_blur(ramp, rng(), 0.01, 3, 1) * 255  # a blur this narrow changes nothing
    np.testing.assert_array_equal(np.sort(moved.round(), None), np.sort((ramp * 255).round(), None))
    assert (moved.round() != (ramp * 255).round()).mean() > 0.3


def test_blurs_keep_flat_images_and_the_mean():
    flat = grey(0.4)
    for name in FAMILIES["blur"]:
        out = corrupt((flat * 255).astype(np.uint8), None, name, 3)[0]
        assert np.abs(out.astype(int) - 102).max() <= 1, name


def test_contrast_brightness_and_saturation():
    image = scene().astype(np.float32) / 255
    mean = image.mean((0, 1))
    np.testing.assert_allclose(ops.contrast(image, rng(), 0.3), (image - mean) * 0.3 + mean, atol=1e-6)
    brighter = ops.brightness(image, rng(), 0.2)
    np.testing.assert_allclose(brighter.max(-1), np.clip(image.max(-1) + 0.2, 0, 1), atol=1e-5)
    pale = ops.saturate(image, rng(), 0.0, 0.0)
    np.testing.assert_allclose(pale, np.repeat(image.max(-1, keepdims=True), 3, -1), atol=1e-5)


def test_pixelate_makes_blocks():
    out = corrupt(scene(64, 64), None, "pixelate", 5)[0]
    np.testing.assert_array_equal(out, out[::4, ::4].repeat(4, 0).repeat(4, 1))


@settings(max_examples=10)
@given(st.integers(8, 70), st.integers(8, 70), st.floats(1.2, 2.2), st.integers(0, 1000))
def test_plasma_fills_the_range_at_any_size(height, width, decay, seed):
    field = weather.plasma((height, width), np.random.default_rng(seed), decay)
    assert field.shape == (height, width) and field.min() >= 0 and field.max() <= 1 and field.std() > 0.01


def test_fog_keeps_the_maximum_and_hides_contrast():
    image = scene().astype(np.float32) / 255
    foggy = weather.fog(image, rng(), 2.5, 1.7)
    assert foggy.max() <= image.max() + 1e-6
    assert np.abs(np.diff(foggy, axis=1)).mean() < np.abs(np.diff(image, axis=1)).mean()


@pytest.mark.parametrize("severity", [1, 2, 4])
def test_elastic_moves_the_label_with_the_image(severity):
    label = np.kron(np.random.default_rng(1).integers(0, 19, (8, 12)), np.ones((24, 24))).astype(np.uint8)
    image = np.repeat(label[..., None] * 10, 3, -1)
    moved, follows = corrupt(image, label, "elastic_transform", severity)
    around = np.ones((5, 5), np.uint8)
    inner = cv2.dilate(follows, around) == cv2.erode(follows, around)
    assert inner.mean() > 0.5 and (follows != label).any()
    agree = moved[..., 0][inner] == follows[inner] * 10  # a sliver at the mirrored border can blur into its neighbour
    assert agree.mean() > 0.999


def test_suites_have_the_published_members():
    assert len(SUITES["imagenet-c"]) == 15 and len(SUITES["cityscapes-c"]) == 16
    assert set(CORRUPTIONS) == {name for names in FAMILIES.values() for name in names}
    views = suite(Scenes())
    assert len(views) == 80 and len({view.domain for view in views}) == 80
    assert [view.domain for view in suite(Scenes(), "noise", (5,))] == [f"{name}-5" for name in FAMILIES["noise"]]
    assert [view.domain for view in suite(Scenes(), ["fog", "snow"], (1, 2))] == ["fog-1", "fog-2", "snow-1", "snow-2"]


def test_a_corrupted_source_is_a_source():
    view = Corrupted(Scenes(), "fog", 3)
    assert (view.name, view.domain, len(view)) == ("cityscapes", "fog-3", 3)
    np.testing.assert_array_equal(view[1]["image"], pickle.loads(pickle.dumps(view))[1]["image"])
    np.testing.assert_array_equal(view[1]["label"], Scenes()[1]["label"])
    assert (
        len({view.fingerprint(), Corrupted(Scenes(), "fog", 4).fingerprint(), Corrupted(Scenes(), "fog", 3, 1).fingerprint()})
        == 3
    )


def test_bad_names_and_severities_are_refused():
    with pytest.raises(DataError, match="Unknown corruption 'mist'.*fog"):
        Corrupted(Scenes(), "mist", 1)
    for severity in (0, 6, "a"):
        with pytest.raises(DataError, match="from 1 to 5"):
            corrupt(scene(), None, "fog", severity)

"""Windows, canvases and resizing against plain NumPy and the official slide arithmetic."""

import numpy as np
import pytest
from fakes import FakeModel, numpy_scores

from rein_jax import trees
from rein_jax.errors import UserError
from rein_jax.evaluation.grid import coverage, starts, taps
from rein_jax.evaluation.windows import Predictor, Query


def predictor(model, **options):
    module_def, _, params = trees.split(model, ())
    return Predictor(module_def, params, classes=4, **{"window": 32, "stride": 21, "batch": 2, **options})


def bilinear(scores, size):
    """[h,w,K] -> [H,W,K] in NumPy float64, half-pixel centres."""
    for axis, length in enumerate(size):
        t = taps(scores.shape[axis], length, length)
        shape = [1] * 3
        shape[axis] = length
        f = t.weight.astype(np.float64).reshape(shape)
        scores = np.take(scores, t.low, axis) * (1 - f) + np.take(scores, t.high, axis) * f
    return scores


def slide(model, image, crop, stride):
    """Naive sliding window: mean of window scores [h,w,K]."""
    total = np.zeros((*image.shape[:2], 4))
    count = np.zeros(image.shape[:2])
    for y in starts(image.shape[0], crop, stride):
        for x in starts(image.shape[1], crop, stride):
            total[y : y + crop, x : x + crop] += numpy_scores(model, image[y : y + crop, x : x + crop])
            count[y : y + crop, x : x + crop] += 1
    return total / count[..., None]


@pytest.mark.parametrize(("length", "crop", "stride", "expected"), [
    (1024, 512, 341, (0, 341, 512)), (512, 512, 341, (0,)), (1280, 512, 341, (0, 341, 682, 768)), (720, 512, 341, (0, 208)),
    (960, 512, 341, (0, 341, 448)), (540, 512, 341, (0, 28)), (2048, 1024, 683, (0, 683, 1024)), (1920, 1024, 683, (0, 683, 896)),
    (1080, 1024, 683, (0, 56)), (683, 512, 341, (0, 171)), (300, 512, 341, (0,)),
])
def test_starts_are_the_originals(length, crop, stride, expected):
    assert starts(length, crop, stride) == expected
    assert coverage(length, crop, stride).min() >= 1
    assert coverage(length, crop, stride).sum() == len(expected) * min(crop, length)


def test_slide_equals_plain_loops_for_mixed_sizes():
    model, random = FakeModel(), np.random.default_rng(0)
    sizes = [(48, 80), (64, 64), (20, 50), (48, 80), (32, 32), (33, 97)]
    images = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    targets = [(48, 80), (100, 90), (20, 50), (96, 160), (16, 16), (50, 60)]
    made = predictor(model)
    answers = list(made.stream([Query(i, image, target) for i, (image, target) in enumerate(zip(images, targets, strict=True))]))
    assert [a.tag for a in answers] == list(range(len(images)))
    for image, target, answer in zip(images, targets, answers, strict=True):
        if min(image.shape[:2]) < 32:
            continue  # padded windows: the fake model's ramp depends on the padding, see the next test
        expected = bilinear(slide(model, image, 32, 21), target)
        order = np.sort(expected, axis=-1)
        clear = order[..., -1] - order[..., -2] > 1e-5
        assert answer.labels.shape == target and answer.labels.dtype == np.uint8
        assert (answer.labels == expected.argmax(-1))[clear].all() and clear.mean() > 0.999


def test_windows_smaller_than_the_crop_are_padded_and_cut():
    model = FakeModel(ramp=0.0)
    image = np.random.default_rng(1).integers(0, 256, (20, 50, 3), dtype=np.uint8)
    expected = slide(model, image, 32, 21).argmax(-1)
    assert (predictor(model)(image) == expected).mean() > 0.999
    assert (predictor(model, mode="whole")(image) == numpy_scores(model, image).argmax(-1)).mean() > 0.999


def test_one_compilation_for_each_window_shape():
    made, random = predictor(FakeModel(), window=16, stride=16, batch=7), np.random.default_rng(0)
    images = [random.integers(0, 256, (40 + 3 * i, 70 + 5 * i, 3), dtype=np.uint8) for i in range(6)]
    list(made.stream([Query(i, image, image.shape[:2]) for i, image in enumerate(images)]))
    assert made.traces["score"] == 1 and made.traces["add"] == 1 and made.traces["finish"] <= 1
    again = predictor(FakeModel(seed=1), window=16, stride=16, batch=7)  # other weights of the same architecture
    again(images[0])
    assert not again.traces


def test_flip_and_scales_average_probabilities_at_file_size():
    import cv2

    model = FakeModel()
    image = np.random.default_rng(2).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    total = 0.0
    for scale in (1.0, 1.5):
        view = cv2.resize(image, (int(64 * scale + 0.5), int(48 * scale + 0.5)), interpolation=cv2.INTER_LINEAR)
        for flip in (False, True):
            scores = slide(model, view[:, ::-1] if flip else view, 32, 21)
            scores = bilinear(scores[:, ::-1] if flip else scores, (60, 80))
            exp = np.exp(scores - scores.max(-1, keepdims=True))
            total = total + exp / exp.sum(-1, keepdims=True) / 4
    made = predictor(model, scales=(1.0, 1.5), flip=True, confidence=True)
    answer = next(iter(made.stream([Query("a", image, (60, 80))])))
    assert (answer.labels == total.argmax(-1)).mean() > 0.999
    assert np.abs(answer.confidence / 240 - total.max(-1)).max() < 1.01 / 240


def test_many_sizes_in_whole_mode_stay_in_order():
    model, random = FakeModel(ramp=0.0), np.random.default_rng(3)
    images = [random.integers(0, 256, (17 + i % 5, 30 + i, 3), dtype=np.uint8) for i in range(20)]
    made = predictor(model, mode="whole", batch=3)
    answers = list(made.stream([Query(i, image, image.shape[:2]) for i, image in enumerate(images)]))
    assert [a.tag for a in answers] == list(range(20))
    assert all((a.labels == numpy_scores(model, i).argmax(-1)).mean() > 0.99 for a, i in zip(answers, images, strict=True))



def test_official_windows_are_cut_and_averaged_where_ours_are(fixture_case):
    """96x160 with crop 64 and stride 43 gives the 8 windows that the original counted (meta: n_crops)."""
    rows, columns = starts(96, 64, 43), starts(160, 64, 43)
    assert (rows, columns) == ((0, 32), (0, 43, 86, 96)) and len(rows) * len(columns) == 8


@pytest.mark.parametrize(("options", "sentence"), [
    ({"stride": 40}, "stride must be between 1 and the window"), ({"window": 40}, "multiple of the model's patch size, 16"),
    ({"mode": "tiles"}, "mode must be"), ({"batch": 0}, "batch must be at least 1"), ({"scales": ()}, "every scale positive"),
])
def test_bad_options_are_refused(options, sentence):
    with pytest.raises(UserError, match=sentence):
        predictor(FakeModel(), **options)


def test_wrong_number_of_classes_and_wrong_images_are_refused():
    module_def, _, params = trees.split(FakeModel(), ())
    with pytest.raises(UserError, match="scores 4 classes, the data set has 5"):
        Predictor(module_def, params, classes=5, window=32, stride=32)(np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(UserError, match="must be uint8"):
        predictor(FakeModel())(np.zeros((32, 32, 3), np.float32))

"""Confusion matrices and the numbers read off them, against scikit-learn and hand-made cases."""

import cv2
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, jaccard_score

from rein_jax.errors import UserError
from rein_jax.evaluation.predictions import read_prediction
from rein_jax.metrics import boundary, calibration, confusion
from rein_jax.metrics.bootstrap import interval, mean_ious

K = 7


def maps(seed, size=(60, 83), classes=K):
    random = np.random.default_rng(seed)
    label = random.integers(0, classes, size, dtype=np.uint8)
    prediction = np.where(random.random(size) < 0.6, label, random.integers(0, classes, size)).astype(np.uint8)
    label[random.random(size) < 0.1] = 255
    return label, prediction


@pytest.mark.parametrize("seed", range(5))
def test_matrix_iou_and_accuracy_are_sklearns(seed):
    label, prediction = maps(seed, classes=K - seed % 2)  # with seed 1 and 3 one class occurs nowhere
    known = label != 255
    matrix = confusion.confusion(label, prediction, K)
    expected = confusion_matrix(label[known], prediction[known], labels=range(K))
    assert matrix.dtype == np.int64 and (matrix == expected).all()
    found = confusion.scores(matrix)
    present = ~np.isnan(found.iou)
    iou = jaccard_score(label[known], prediction[known], labels=np.flatnonzero(present), average=None)
    np.testing.assert_allclose(found.iou[present], iou, rtol=1e-12)
    np.testing.assert_allclose(found.mean_iou, iou.mean(), rtol=1e-12)
    assert found.pixel_accuracy == pytest.approx((label == prediction)[known].mean(), rel=1e-12)
    assert found.pixels == known.sum()


def test_matrices_are_exact_for_images_beyond_float32_counts():
    label = np.zeros((4100, 4200), np.uint8)  # 17.2 million pixels of one kind: more than float32 can count one by one
    prediction = np.ones_like(label)
    prediction[0, 0] = 0
    matrix = confusion.confusion(label, prediction, 2)
    assert matrix.tolist() == [[1, label.size - 1], [0, 0]]


def test_a_bdd100k_example_of_the_tools_own_tests(tmp_path):
    """bdd100k/bdd100k, tests/eval: the pixel counts of its example give mIoU 61.73469387755102 and pixel accuracy 95.0."""
    label, prediction = np.zeros((2, 10, 10), np.uint8)
    label[0, :6], prediction[0, :2], prediction[9, 9] = 1, 1, 1
    for name, labels in (("label", label), ("prediction", prediction)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), labels)
    matrix = confusion.confusion(read_prediction(tmp_path / "label.png"), read_prediction(tmp_path / "prediction.png"), 2)
    assert matrix.tolist() == [[93, 1], [4, 2]]
    found = confusion.scores(matrix)
    assert 100 * found.mean_iou == pytest.approx(61.73469387755102, abs=1e-12)
    assert 100 * found.pixel_accuracy == pytest.approx(95.0, abs=1e-12)
    assert 100 * np.mean(found.precision) == pytest.approx(81.27147766323024, abs=1e-12)  # that tool calls precision "Acc"


def test_summary_rounds_as_the_original_and_keeps_the_exact_values():
    found = confusion.summary(np.array([[2, 1, 0], [0, 3, 0], [0, 0, 0]]), ("a", "b", "c"))
    assert found["IoU"]["a"] == 66.67 and found["IoU"]["b"] == 75.0 and np.isnan(found["IoU"]["c"])
    assert found["mIoU"] == 70.83 and found["aAcc"] == 83.33 and found["mAcc"] == 83.33
    assert found["exact"]["mIoU"] == pytest.approx(70.8333333333)


def test_mean_over_domains_is_of_rounded_values():
    parts = {name: {"aAcc": a, "mIoU": a, "mAcc": a, "exact": {"aAcc": e, "mIoU": e, "mAcc": e}}
             for name, a, e in (("citys", 66.4, 66.399), ("bdd", 60.41, 60.4149), ("map", 66.1, 66.0951))}
    mean = confusion.mean_over_domains(parts)
    assert mean["mIoU"] == pytest.approx((66.4 + 60.41 + 66.1) / 3, abs=1e-12)
    assert mean["exact"]["mIoU"] == pytest.approx((66.399 + 60.4149 + 66.0951) / 3, abs=1e-12)


@pytest.mark.parametrize(("label", "prediction", "sentence"), [
    (np.zeros((4, 6), np.uint8), np.zeros((4, 5), np.uint8), "a.png: the prediction is 5x4 but the label is 6x4"),
    (np.zeros((4, 6), np.uint8), np.full((4, 6), 9, np.uint8), "holds the value 9, but classes go from 0 to 6"),
    (np.zeros((4, 6), np.int32), np.zeros((4, 6), np.uint8), "must be uint8"),
])
def test_maps_that_do_not_fit_are_refused(label, prediction, sentence):
    with pytest.raises(UserError, match=sentence):
        confusion.confusion(label, prediction, K, "a.png")


def paper_boundary(mask, d):
    """The boundary of one mask as its paper defines it: the mask minus its erosion by d steps of a 3x3 square."""
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=d)[1:-1, 1:-1]
    return mask & (eroded == 0)


@pytest.mark.parametrize("seed", range(3))
def test_boundary_iou_of_all_classes_at_once_is_the_papers_one_by_one(seed):
    random = np.random.default_rng(seed)
    label, prediction = (np.kron(random.integers(0, 4, (6, 9)), np.ones((11, 10))).astype(np.uint8) for _ in range(2))
    d = boundary.distance(label.shape)
    counts = boundary.counts(label, prediction, 4)
    for c in range(4):
        a, b = paper_boundary(label == c, d), paper_boundary(prediction == c, d)
        assert counts[:, c].tolist() == [(a & b).sum(), a.sum(), b.sum()]
    expected = [counts[0, c] / (counts[1, c] + counts[2, c] - counts[0, c]) for c in range(4)]
    np.testing.assert_allclose(boundary.boundary_iou(counts), expected)


def test_calibration_error_is_the_plain_definition():
    random = np.random.default_rng(0)
    confidence = random.integers(60, 240, (50, 70)).astype(np.uint16)
    prediction = np.zeros((50, 70), np.uint8)
    label = np.where(random.random((50, 70)) < confidence / 240, 0, 1).astype(np.uint8)
    label[:5] = 255
    total = calibration.histogram(confidence, label, prediction, 2, 240)
    assert total.sum() == 45 * 70
    p, right = ((confidence[5:] + 0.5) / 240).ravel(), (label[5:] == 0).ravel()
    bins, ece = (p * 15).astype(int), 0.0
    for b in range(15):
        if (bins == b).any():
            ece += (bins == b).mean() * abs(right[bins == b].mean() - p[bins == b].mean())
    found = calibration.reliability(total)
    assert found["ece"] == pytest.approx(ece, rel=1e-9) and found["ece"] < 0.05
    assert sum(found["pixels"]) == 45 * 70 and found["accuracy"][0] is None


def test_bootstrap_interval_is_paired():
    random = np.random.default_rng(0)
    first = random.integers(0, 50, (40, 5, 5)) + 200 * np.eye(5, dtype=int)
    second = first + 20 * np.eye(5, dtype=int)  # better on every image: the paired interval must not include zero
    found = interval(first, second, draws=300)
    assert found["value"] == pytest.approx(100 * (mean_ious(second.sum(0)) - mean_ious(first.sum(0))))
    assert 0 < found["low"] < found["value"] < found["high"] and found["better"] == 1.0
    alone = interval(first, draws=300)
    assert alone["low"] < alone["value"] < alone["high"]
    assert interval(first, first, draws=100)["low"] == interval(first, first, draws=100)["high"] == 0
    assert interval(first, second, draws=300) == found  # seeded
    with pytest.raises(UserError, match="the same images"):
        interval(first, second[:-1])

"""Exact confusion matrices, and every number that is read off them.

A confusion matrix is int64 [K, K]: row = class of the label, column = class of the prediction; pixels whose label is void
(255, or any value >= K) are not counted. Matrices of images, conditions, corruptions and processes are added as integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from rein_jax.errors import UserError

ROWS = 1 << 22  # cv2.calcHist hands its exact counts back as float32: stay far below 2**24 pixels a call


def confusion(label: np.ndarray, prediction: np.ndarray, classes: int, name: str = "image") -> np.ndarray:
    """int64 [K, K] of one image; label and prediction are uint8 [H, W]. Other sizes or a predicted class >= K are UserErrors."""
    if label.shape != prediction.shape:
        raise UserError(f"{name}: the prediction is {_size(prediction)} but the label is {_size(label)}; they must be of equal size.")
    if label.dtype != np.uint8 or prediction.dtype != np.uint8:
        raise UserError(f"{name}: label and prediction must be uint8, not {label.dtype} and {prediction.dtype}.")
    if prediction.size and int(prediction.max()) >= classes:
        raise UserError(f"{name}: the prediction holds the value {int(prediction.max())}, but classes go from 0 to {classes - 1}.")
    return joint(label, prediction, classes)


def joint(label: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """int64 [K, K] counts of (label, prediction) pairs of two uint8 arrays; pairs with a value >= K are left out."""
    label, prediction = label.reshape(-1, 1), prediction.reshape(-1, 1)
    total = np.zeros((classes, classes), np.int64)
    for begin in range(0, label.size, ROWS):
        part = [np.ascontiguousarray(a[begin : begin + ROWS]) for a in (label, prediction)]
        total += cv2.calcHist(part, [0, 1], None, [classes] * 2, [0, classes] * 2).astype(np.int64)
    return total


def _size(array: np.ndarray) -> str:
    return "x".join(str(n) for n in array.shape[::-1])


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix says, as fractions in float64; NaN where a class occurs in neither label nor prediction."""

    iou: np.ndarray  # [K] intersection / union
    accuracy: np.ndarray  # [K] intersection / label (recall)
    precision: np.ndarray  # [K] intersection / prediction
    pixel_accuracy: float  # aAcc
    pixels: int

    @property
    def mean_iou(self) -> float:
        return nanmean(self.iou)

    @property
    def mean_accuracy(self) -> float:
        return nanmean(self.accuracy)


def scores(matrix: np.ndarray) -> Scores:
    """IoU, accuracy, precision and pixel accuracy of an integer confusion matrix."""
    matrix = np.asarray(matrix, np.int64)
    hit, label, predicted = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Scores(
            hit / (label + predicted - hit), hit / label, hit / predicted,
            float(np.float64(hit.sum()) / matrix.sum()) if matrix.sum() else float("nan"), int(matrix.sum()),
        )


def nanmean(values: np.ndarray) -> float:
    """Mean over the entries that are not NaN; NaN if there are none."""
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if known.size else float("nan")


def percent(value: float) -> float:
    """A fraction in percent, rounded to two decimals as the original prints it."""
    return float(np.round(np.float64(value) * 100, 2))


def summary(matrix: np.ndarray, names: Sequence[str]) -> dict:
    """Everything results.json says of one matrix: percentages rounded to two decimals, `exact` ones unrounded."""
    found = scores(matrix)
    means = {"aAcc": found.pixel_accuracy, "mIoU": found.mean_iou, "mAcc": found.mean_accuracy}
    return {
        **{key: percent(value) for key, value in means.items()},
        "IoU": {name: percent(value) for name, value in zip(names, found.iou, strict=True)},
        "Acc": {name: percent(value) for name, value in zip(names, found.accuracy, strict=True)},
        "exact": {key: 100 * value for key, value in means.items()},
        "pixels": found.pixels,
        "confusion": np.asarray(matrix, np.int64).tolist(),
    }


def mean_over_domains(summaries: Mapping[str, Mapping]) -> dict:
    """aAcc, mIoU and mAcc averaged over domains: of the rounded values (the original's way), and `exact` of the unrounded."""
    keys = ("aAcc", "mIoU", "mAcc")
    return {
        "domains": list(summaries),
        **{key: float(np.mean([found[key] for found in summaries.values()])) for key in keys},
        "exact": {key: float(np.mean([found["exact"][key] for found in summaries.values()])) for key in keys},
    }

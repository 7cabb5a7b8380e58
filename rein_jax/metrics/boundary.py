"""Boundary IoU (Cheng et al., CVPR 2021): IoU of the pixels that lie near the border of their segment.

For a label map all classes are done at once: a pixel lies within d of another class, of void or of the edge of the image
exactly where the largest and the smallest value in its (2d + 1)^2 neighbourhood differ. That is the paper's mask minus its
erosion by d steps of a 3x3 square, for every class together.
"""

from __future__ import annotations

import cv2
import numpy as np

from rein_jax.metrics.confusion import joint

RATIO = 0.02  # of the image diagonal, the paper's default


def distance(size: tuple[int, int], ratio: float = RATIO) -> int:
    """Width in pixels of the band along borders for an image of that size (height, width); at least 1."""
    return max(1, int(round(ratio * float(np.hypot(*size)))))


def band(labels: np.ndarray, d: int) -> np.ndarray:
    """bool [H, W]: pixels within d of another value or of the edge of the image. labels: uint8 [H, W]."""
    kernel = np.ones((2 * d + 1, 2 * d + 1), np.uint8)
    near = cv2.dilate(labels, kernel) != cv2.erode(labels, kernel)
    near[:d], near[-d:], near[:, :d], near[:, -d:] = True, True, True, True
    return near


def counts(label: np.ndarray, prediction: np.ndarray, classes: int, ratio: float = RATIO) -> np.ndarray:
    """int64 [3, K]: pixels in both bands with the right class, in the label's band, in the prediction's band; void left out."""
    d = distance(label.shape, ratio)
    near_label, near_prediction = band(label, d), band(prediction, d)
    known = label < classes
    outside = np.uint8(255)
    truth = np.where(near_label & known, label, outside)
    found = np.where(near_prediction & known, prediction, outside)
    return np.stack([np.diag(joint(truth, found, classes)), _count(truth, classes), _count(found, classes)])


def _count(values: np.ndarray, classes: int) -> np.ndarray:
    return np.diag(joint(values, values, classes))


def boundary_iou(total: np.ndarray) -> np.ndarray:
    """float64 [K] boundary IoU from summed counts int64 [3, K]; NaN for classes that occur nowhere."""
    both, truth, found = np.asarray(total, np.int64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return both / (truth + found - both)

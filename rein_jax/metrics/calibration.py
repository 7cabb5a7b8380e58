"""Calibration: does a pixel predicted with confidence p turn out right in a fraction p of cases?

Confidences are counted in equal integer steps, so that histograms add exactly over images and processes.
"""

from __future__ import annotations

import cv2
import numpy as np

from rein_jax.metrics.confusion import ROWS

BINS = 15
LEVELS = 240  # confidences are counted in this many equal steps: exact integers, and whole bins for 10, 12, 15, 16 or 20


def histogram(confidence: np.ndarray, label: np.ndarray, prediction: np.ndarray, classes: int, levels: int) -> np.ndarray:
    """int64 [levels, 2]: pixels of each confidence step, wrong ones and right ones; void pixels are left out.

    confidence: uint16 [H, W] in steps of 1 / levels; label, prediction: uint8 [H, W].
    """
    right = (label == prediction).astype(np.uint16)
    code = np.where(label < classes, confidence + right * np.uint16(levels), np.uint16(2 * levels)).astype(np.uint16)
    rows = code.reshape(-1, 1)
    parts = (rows[begin : begin + ROWS] for begin in range(0, len(rows), ROWS))
    counts = sum(cv2.calcHist([part], [0], None, [2 * levels], [0, 2 * levels]).astype(np.int64) for part in parts)
    return counts.reshape(2, levels).T


def reliability(total: np.ndarray, bins: int = BINS) -> dict:
    """Expected and maximum calibration error and the reliability curve from a summed histogram int64 [levels, 2].

    ece is the average over equal-width confidence bins of |accuracy - mean confidence|, weighted by pixels (Guo et al.,
    ICML 2017, 15 bins). A step counts with its centre, so ece is off by at most half a step (0.2 %).
    """
    total = np.asarray(total, np.int64)
    levels = len(total)
    if levels % bins:
        raise ValueError(f"{bins} bins do not divide {levels} steps")
    centre = (np.arange(levels) + 0.5) / levels
    number = total.sum(1)
    pixels = number.reshape(bins, -1).sum(1)
    right = total[:, 1].reshape(bins, -1).sum(1)
    mass = (number * centre).reshape(bins, -1).sum(1)
    filled = pixels > 0
    gap = np.abs(right[filled] - mass[filled]) / pixels[filled]
    everything = max(int(pixels.sum()), 1)
    return {
        "ece": float((gap * pixels[filled]).sum() / everything),
        "mce": float(gap.max()) if gap.size else 0.0,
        "confidence": [float(m / n) if n else None for m, n in zip(mass, pixels, strict=True)],
        "accuracy": [float(r / n) if n else None for r, n in zip(right, pixels, strict=True)],
        "pixels": pixels.tolist(),
    }

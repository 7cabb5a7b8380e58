"""Paired bootstrap: is one model better than another on the same images, or is it the choice of images?

Images are drawn with replacement, the same draw for both models; each draw sums the images' confusion matrices and takes
the difference in mIoU. The interval is the percentile interval of these differences.
"""

from __future__ import annotations

import numpy as np

from rein_jax.errors import UserError


def mean_ious(matrices: np.ndarray) -> np.ndarray:
    """mIoU (fraction, NaN-mean over classes) of each matrix [..., K, K]."""
    hit = np.diagonal(matrices, axis1=-2, axis2=-1)
    union = matrices.sum(-1) + matrices.sum(-2) - hit
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = hit / union
    known = ~np.isnan(iou)
    return np.where(known, iou, 0).sum(-1) / np.maximum(known.sum(-1), 1)


def _draws(images: int, draws: int, seed: int) -> np.ndarray:
    """[draws, images]: how often each image is in each draw."""
    picks = np.random.default_rng(seed).integers(0, images, (draws, images))
    return np.stack([np.bincount(row, minlength=images) for row in picks])


def interval(first: np.ndarray, second: np.ndarray | None = None, *, draws: int = 1000, level: float = 0.95, seed: int = 0) -> dict:
    """mIoU of `first` in percent with its interval; with `second` the difference second - first, paired by image.

    first, second: integer confusion matrices of single images [N, K, K], in the same order. Returns {"value", "low",
    "high", "level", "draws", "images"} and, for a difference, "better": the share of draws in which `second` is better.
    """
    if second is not None and len(first) != len(second):
        raise UserError(f"a paired comparison needs the same images; one run has {len(first)}, the other {len(second)}.")
    if not len(first):
        raise UserError("a bootstrap interval needs at least one image.")
    weight = _draws(len(first), draws, seed).astype(np.float64)  # float64 products are exact below 2**53 pixels
    sampled = [_sampled(weight, m) for m in (first, second) if m is not None]
    whole = [mean_ious(np.asarray(m, np.int64).sum(0)) for m in (first, second) if m is not None]
    value = whole[0] if second is None else whole[1] - whole[0]
    spread = sampled[0] if second is None else sampled[1] - sampled[0]
    low, high = np.quantile(spread, [(1 - level) / 2, (1 + level) / 2])
    found = {"value": 100 * float(value), "low": 100 * float(low), "high": 100 * float(high),
             "level": level, "draws": draws, "images": len(first)}
    if second is not None:
        found["better"] = float((spread > 0).mean())
    return found


def _sampled(weight: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """mIoU of every draw [draws]."""
    matrices = np.asarray(matrices, np.float64)
    n, k, _ = matrices.shape
    return mean_ious((weight @ matrices.reshape(n, k * k)).reshape(-1, k, k))

"""Where windows lie and how score maps are resized: plain NumPy arithmetic, no device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rein_jax.layers import resize

CANVAS = 128  # canvases and label maps are rounded up to multiples of this, so that similar sizes share a compilation


def starts(length: int, crop: int, stride: int) -> tuple[int, ...]:
    """First pixels of the windows along one axis; the last window is shifted back to end at the border.

    Cityscapes at 1024x512 with 512/341: x (0, 341, 512), y (0,). An axis shorter than the crop has one window, at 0.
    """
    count = max(length - crop + stride - 1, 0) // stride + 1
    return tuple(max(min(i * stride, length - crop), 0) for i in range(count))


def coverage(length: int, crop: int, stride: int) -> np.ndarray:
    """float32 [length]: how many windows of that axis cover each pixel. The count of a pixel is the product of both axes."""
    count = np.zeros(length, np.float32)
    for start in starts(length, crop, stride):
        count[start : start + crop] += 1
    return count


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is not below `value`."""
    return -(-value // multiple) * multiple


def bucket(size: tuple[int, int], multiple: int = CANVAS) -> tuple[int, int]:
    """The size rounded up per axis."""
    return round_up(size[0], multiple), round_up(size[1], multiple)


@dataclass(frozen=True)
class Taps:
    """Bilinear resizing of one axis as two gathers and a blend: out[i] = (1 - weight[i]) in[low[i]] + weight[i] in[high[i]]."""

    low: np.ndarray  # int32 [m]
    high: np.ndarray  # int32 [m]
    weight: np.ndarray  # float32 [m]


def taps(source: int, target: int, padded: int, mirrored: bool = False) -> Taps:
    """Taps of torch's `interpolate(mode="bilinear", align_corners=False)`.

    source, target: lengths before and after; padded: length of the result (the tail repeats the last pixel and is cut
    off later); mirrored: read the source from its far end, which undoes a horizontal flip.
    """
    index, weight = resize.taps(source, target, "bilinear")
    rows = np.arange(padded).clip(max=target - 1)
    index = (source - 1 - index if mirrored else index)[rows].astype(np.int32)
    return Taps(index[:, 0], index[:, 1], weight[rows, 1])

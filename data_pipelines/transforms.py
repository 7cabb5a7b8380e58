"""Training transforms on uint8 RGB images and uint8 labels: resize, crop, flip, photometric distortion, padding.

Equal, value by value, to the pipeline that Rein and mmsegmentation 1.x train with (RandomChoiceResize of
ResizeShortestEdge, RandomCrop with cat_max_ratio, RandomFlip, PhotoMetricDistortion). Each random step is split in two:
`draw*` takes random numbers from a `numpy.random.Generator`, `apply` or the function of that name uses them; so the same
draws always give the same pixels. All code is NumPy and OpenCV.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import cv2
import numpy as np

from data_pipelines.errors import DataError

VOID = 255
CROP_CHECKS = 10  # boxes that are checked against cat_max_ratio; the next one is taken unchecked


def keep_ratio_size(height: int, width: int, long: float, short: float) -> tuple[int, int]:
    """Largest (height, width) of the same shape inside long x short, the long side against `long` (mmcv's rescale_size)."""
    scale = min(max(long, short) / max(height, width), min(long, short) / min(height, width))
    return int(height * scale + 0.5), int(width * scale + 0.5)


def shortest_edge_size(height: int, width: int, edge: int, max_size: int) -> tuple[int, int]:
    """(height, width) with the short side at `edge` and the long side at most `max_size` (mmseg's ResizeShortestEdge).

    The size is rounded, and the image is then fitted inside the rounded size with its ratio kept, as the original does:
    the result can differ by one pixel from scaling once.
    """
    scale = edge / min(height, width)
    tall, wide = (edge, scale * width) if height < width else (scale * height, edge)
    if max(tall, wide) > max_size:
        shrink = max_size / max(tall, wide)
        tall, wide = tall * shrink, wide * shrink
    tall, wide = int(tall + 0.5), int(wide + 0.5)
    return keep_ratio_size(height, width, max(tall, wide), min(tall, wide))


def resize_pair(image: np.ndarray, label: np.ndarray | None, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray | None]:
    """Image [H,W,3] and label [H,W] at `size` (height, width): bilinear without antialiasing, and nearest.

    A size that rounds to zero (a very long, thin image) becomes one pixel.
    """
    height, width = (max(side, 1) for side in size)
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    if label is not None and label.shape != (height, width):
        label = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)
    return image, label


class Resize(Protocol):
    """A random choice of size; `draw` returns the (height, width) an image of this size is resized to."""

    def draw(self, rng: np.random.Generator, height: int, width: int) -> tuple[int, int]: ...


@dataclass(frozen=True)
class ShortestEdge:
    """Short side chosen from `edges` with equal chances, long side at most `max_size`."""

    edges: tuple[int, ...]
    max_size: int

    @classmethod
    def official(cls, crop: int) -> ShortestEdge:
        """The 16 scales 0.5 ... 2.0 of a crop, as Rein trains: int(crop x 0.1 k) for k = 5 ... 20, long side at most 4 crop."""
        return cls(tuple(int(crop * k * 0.1) for k in range(5, 21)), 4 * crop)

    def draw(self, rng: np.random.Generator, height: int, width: int) -> tuple[int, int]:
        edge = self.edges[int(rng.integers(len(self.edges)))]
        return shortest_edge_size(height, width, edge, self.max_size)


@dataclass(frozen=True)
class RandomResize:
    """Image fitted inside (width, height) times a factor drawn uniformly from `ratio` (mmcv's RandomResize, keep_ratio)."""

    scale: tuple[int, int] = (2048, 1024)
    ratio: tuple[float, float] = (0.5, 2.0)

    def draw(self, rng: np.random.Generator, height: int, width: int) -> tuple[int, int]:
        factor = float(rng.uniform(*self.ratio))
        return keep_ratio_size(height, width, *(int(side * factor) for side in self.scale))


def draw_crop(
    rng: np.random.Generator, label: np.ndarray, crop: tuple[int, int], cat_max_ratio: float = 0.75
) -> tuple[int, int, int, int]:
    """Box (top, left, height, width) of a random crop; sides of the image smaller than the crop are taken whole.

    A box is accepted when it holds more than one class and the commonest class covers less than `cat_max_ratio` of the
    pixels that are not void. Ten boxes are checked; the eleventh is taken as it is. `cat_max_ratio=1` turns the rule off.
    """
    height, width = min(crop[0], label.shape[0]), min(crop[1], label.shape[1])
    for check in range(CROP_CHECKS + 1):
        top = int(rng.integers(0, label.shape[0] - height + 1))
        left = int(rng.integers(0, label.shape[1] - width + 1))
        if cat_max_ratio >= 1 or check == CROP_CHECKS:
            break
        if _varied(label[top : top + height, left : left + width], cat_max_ratio):
            break
    return top, left, height, width


def _varied(label: np.ndarray, cat_max_ratio: float) -> bool:
    counts = cv2.calcHist([label], [0], None, [256], [0, 256]).ravel()[:VOID].astype(np.int64)  # ten times np.unique's speed
    return int((counts > 0).sum()) > 1 and counts.max() / counts.sum() < cat_max_ratio


@dataclass(frozen=True)
class PhotometricDraw:
    """Random numbers of one photometric distortion; None leaves the operation out."""

    brightness: float | None = None
    contrast: float | None = None
    contrast_first: bool = True
    saturation: float | None = None
    hue: int | None = None


@dataclass(frozen=True)
class Photometric:
    """Brightness, contrast, saturation and hue, each with probability one half (mmseg's PhotoMetricDistortion).

    Contrast scales about zero and comes before or after the colour operations with equal chances. Every operation clips to
    [0, 255] and truncates to uint8. `hue` is in OpenCV's units (half degrees, 0 ... 179); its upper bound is exclusive.
    """

    brightness: float = 32
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: int = 18

    def draw(self, rng: np.random.Generator) -> PhotometricDraw:
        coin = lambda: bool(rng.integers(2))
        brightness = float(rng.uniform(-self.brightness, self.brightness)) if coin() else None
        first = coin()
        contrast = saturation = hue = None
        if first and coin():
            contrast = float(rng.uniform(*self.contrast))
        if coin():
            saturation = float(rng.uniform(*self.saturation))
        if self.hue and coin():
            hue = int(rng.integers(-self.hue, self.hue))
        if not first and coin():
            contrast = float(rng.uniform(*self.contrast))
        return PhotometricDraw(brightness, contrast, first, saturation, hue)


IDENTITY = np.arange(256, dtype=np.uint8)


def _linear_table(scale: float, shift: float) -> np.ndarray:
    """uint8 -> uint8 table of clip(value * scale + shift), in float32 as on an image, truncated."""
    return np.clip(np.arange(256, dtype=np.float32) * np.float32(scale) + np.float32(shift), 0, 255).astype(np.uint8)


def _through_hsv(image: np.ndarray, hue: np.ndarray = IDENTITY, saturation: np.ndarray = IDENTITY) -> np.ndarray:
    table = np.stack([hue, saturation, IDENTITY], axis=-1)[None]
    return cv2.cvtColor(cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table), cv2.COLOR_HSV2RGB)


def photometric(image: np.ndarray, draw: PhotometricDraw) -> np.ndarray:
    """Apply one draw to a uint8 RGB image. Per-value operations run as 256-entry tables, which is exact and several times faster.

    Saturation and hue each go to HSV and back, as in the original: the round trip itself loses bits, so they are not merged.
    """
    before, after = IDENTITY, IDENTITY
    if draw.brightness is not None:
        before = _linear_table(1.0, draw.brightness)
    if draw.contrast is not None:
        contrast = _linear_table(draw.contrast, 0.0)
        if draw.contrast_first:
            before = contrast[before]
        else:
            after = contrast
    image = image if before is IDENTITY else cv2.LUT(image, before)
    if draw.saturation is not None:
        image = _through_hsv(image, saturation=_linear_table(draw.saturation, 0.0))
    if draw.hue is not None:
        turned = IDENTITY.copy()
        turned[:180] = (np.arange(180) + draw.hue) % 180
        image = _through_hsv(image, hue=turned)
    return image if after is IDENTITY else cv2.LUT(image, after)


def pad_pair(image: np.ndarray, label: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Pad at the bottom and on the right to `size`: image with 0, label with 255 (void)."""
    if image.shape[:2] == tuple(size):
        return image, label
    (height, width), real = size, image.shape[:2]
    padded = np.zeros((height, width, 3), np.uint8)
    padded[: real[0], : real[1]] = image
    void = np.full((height, width), VOID, np.uint8)
    void[: real[0], : real[1]] = label
    return padded, void


@dataclass(frozen=True)
class TrainTransform:
    """Image and label of any size -> one training example of the size of the crop.

    `crop` is (height, width) or one number; `resize="official"` means the 16 short edges of Rein for the crop's shorter
    side; None in `resize` or `photometric` leaves that step out. Calling it returns {"image" uint8 [h,w,3] padded with 0,
    "label" uint8 [h,w] padded with 255, "size" int32 [2]}, size being the (height, width) that is real.
    """

    crop: tuple[int, int] | int = (512, 512)
    resize: Resize | None | str = "official"
    cat_max_ratio: float = 0.75
    flip: float = 0.5
    photometric: Photometric | None = field(default_factory=Photometric)

    def __post_init__(self) -> None:
        crop = (self.crop, self.crop) if isinstance(self.crop, int) else tuple(int(side) for side in self.crop)
        if len(crop) != 2 or min(crop) < 1:
            raise DataError(f"crop is {self.crop}: give a size such as 512 or (512, 1024), height before width.")
        object.__setattr__(self, "crop", crop)
        if isinstance(self.resize, str):
            if self.resize != "official":
                raise DataError(f"resize is {self.resize!r}: give 'official', None, a ShortestEdge or a RandomResize.")
            object.__setattr__(self, "resize", ShortestEdge.official(min(crop)))

    def __call__(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        if image.shape[:2] != label.shape:
            sizes = " and ".join(f"{array.shape[1]}x{array.shape[0]}" for array in (image, label))
            raise DataError(f"Image and label differ in size ({sizes}): make the label as large as its image.")
        if self.resize is not None:
            image, label = resize_pair(image, label, self.resize.draw(rng, *image.shape[:2]))
        top, left, height, width = draw_crop(rng, label, self.crop, self.cat_max_ratio)
        image, label = (array[top : top + height, left : left + width] for array in (image, label))
        if rng.random() < self.flip:
            image, label = cv2.flip(image, 1), cv2.flip(label, 1)
        if self.photometric is not None:
            image = photometric(np.ascontiguousarray(image), self.photometric.draw(rng))
        image, label = pad_pair(image, label, self.crop)
        return {"image": image, "label": label, "size": np.array([height, width], np.int32)}

    def describe(self) -> dict[str, Any]:
        """Settings as plain values, for fingerprints and reports."""
        kind = None if self.resize is None else type(self.resize).__name__
        return {**asdict(self), "crop": list(self.crop), "resize_kind": kind}

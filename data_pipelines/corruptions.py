"""Corrupted copies of any source, computed on the fly: ImageNet-C's corruptions at five severities, and Cityscapes-C.

    from data_pipelines.corruptions import Corrupted, suite
    Corrupted(source, "fog", 3)                     # domain "fog-3"
    suite(source, "cityscapes-c")                   # the 16 x 5 of Cityscapes-C

ImageNet-C (Hendrycks and Dietterich, ICLR 2019) has 15 corruptions and 4 extra ones. Cityscapes-C as segmentation papers use it
(Kamann and Rother, CVPR 2020; SegFormer) has 16: it leaves out zoom blur, elastic transform and pixelate, and takes Gaussian
blur, speckle noise, saturate and spatter instead. Constants are the published ones, in pixels, at any image size.

Differences from the published files: random numbers differ; frost is grown procedurally (`corruption_weather`); glass blur
swaps in another order (`corruption_ops`); the elastic transform moves the label with the image; nothing is stored as JPEG.
Pixels depend on (corruption, severity, seed, element) alone.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from data_pipelines import corruption_ops as ops
from data_pipelines import corruption_weather as weather
from data_pipelines.errors import DataError
from data_pipelines.source import version
from data_pipelines.spelling import did_you_mean

# name -> (function, constants of severity 1 ... 5)
CORRUPTIONS: dict[str, tuple[Any, tuple[tuple[float, ...], ...]]] = {
    "gaussian_noise": (ops.gaussian_noise, ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,))),
    "shot_noise": (ops.shot_noise, ((60,), (25,), (12,), (5,), (3,))),
    "impulse_noise": (ops.impulse_noise, ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,))),
    "speckle_noise": (ops.speckle_noise, ((0.15,), (0.2,), (0.35,), (0.45,), (0.6,))),
    "defocus_blur": (ops.defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))),
    "glass_blur": (ops.glass_blur, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))),
    "motion_blur": (ops.motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    "zoom_blur": (ops.zoom_blur, ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))),
    "gaussian_blur": (ops.gaussian_blur, ((1,), (2,), (3,), (4,), (6,))),
    "snow": (
        weather.snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "frost": (weather.frost, ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))),
    "fog": (weather.fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    "spatter": (
        weather.spatter,
        (
            (0.65, 0.3, 4, 0.69, 0.6, False),
            (0.65, 0.3, 3, 0.68, 0.6, False),
            (0.65, 0.3, 2, 0.68, 0.5, False),
            (0.65, 0.3, 1, 0.65, 1.5, True),
            (0.67, 0.4, 1, 0.65, 1.5, True),
        ),
    ),
    "brightness": (ops.brightness, ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,))),
    "contrast": (ops.contrast, ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,))),
    "saturate": (ops.saturate, ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))),
    "elastic_transform": (
        ops.elastic_field,
        ((488, 170.8, 24.4), (488, 19.52, 48.8), (12.2, 2.44, 4.88), (17.08, 2.44, 4.88), (29.28, 2.44, 4.88)),
    ),
    "pixelate": (ops.pixelate, ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,))),
    "jpeg_compression": (ops.jpeg_compression, ((25,), (18,), (15,), (10,), (7,))),
}

FAMILIES: dict[str, tuple[str, ...]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "gaussian_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "spatter"),
    "digital": ("brightness", "contrast", "saturate", "jpeg_compression", "elastic_transform", "pixelate"),
}
_ONLY_CITYSCAPES_C = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
_NOT_CITYSCAPES_C = ("zoom_blur", "elastic_transform", "pixelate")
SUITES: dict[str, tuple[str, ...]] = {
    "imagenet-c": tuple(name for names in FAMILIES.values() for name in names if name not in _ONLY_CITYSCAPES_C),
    "cityscapes-c": tuple(name for names in FAMILIES.values() for name in names if name not in _NOT_CITYSCAPES_C),
    **FAMILIES,
}
SEVERITIES = (1, 2, 3, 4, 5)


def corrupt(
    image: np.ndarray, label: np.ndarray | None, name: str, severity: int, *, seed: int = 0, element: int = 0
) -> tuple[np.ndarray, np.ndarray | None]:
    """uint8 RGB [H,W,3] and its label under one corruption; the label changes only where pixels move (elastic transform)."""
    function, constants = CORRUPTIONS[_known(name, severity)]
    rng = np.random.default_rng((zlib.crc32(name.encode()), severity, seed, element))
    if name == "elastic_transform":
        field = function(image.shape[:2], rng, *constants[severity - 1])
        return _moved(image, field, cv2.INTER_LINEAR), None if label is None else _moved(label, field, cv2.INTER_NEAREST)
    values = function(image.astype(np.float32) / np.float32(255), rng, *constants[severity - 1])
    return (np.clip(values, 0, 1) * np.float32(255)).astype(np.uint8), label


def _moved(array: np.ndarray, field: tuple[np.ndarray, np.ndarray], how: int) -> np.ndarray:
    return cv2.remap(array, *field, how, borderMode=cv2.BORDER_REFLECT_101)


def _known(name: str, severity: int) -> str:
    if name not in CORRUPTIONS:
        raise DataError(f"Unknown corruption {name!r}.{did_you_mean(name, CORRUPTIONS)} Known: {', '.join(CORRUPTIONS)}.")
    if severity not in SEVERITIES:
        raise DataError(f"Severity of {name} is {severity!r}: give a number from 1 to 5.")
    return name


class Corrupted:
    """A source seen through one corruption; its domain is "fog-3"-like, everything else is the source's."""

    def __init__(self, source: Any, name: str, severity: int, seed: int = 0):
        self.source, self.corruption, self.severity, self.seed = source, _known(name, severity), int(severity), int(seed)
        self.name, self.classes = source.name, source.classes
        self.domain = f"{name}-{severity}"
        self.has_labels = getattr(source, "has_labels", True)
        self.policy = getattr(source, "policy", "raise")
        self.found = getattr(source, "found", "")
        self.split = getattr(source, "split", "")
        self.problems = getattr(source, "problems", {})

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return self._corrupted(self.source[i], i)

    def read(self, i: int) -> dict[str, Any]:
        """Element i itself, whatever the source's policy."""
        return self._corrupted(self.source.read(i), i)

    def entry_name(self, i: int) -> str:
        """Name of element i, without reading it."""
        return self.source.entry_name(i)

    def _corrupted(self, example: dict[str, Any], i: int) -> dict[str, Any]:
        element = int(i) % len(self)
        image, label = corrupt(
            example["image"], example["label"], self.corruption, self.severity, seed=self.seed, element=element
        )
        return {**example, "image": image, "label": label}

    def fingerprint(self) -> str:
        """Hash of the source's fingerprint and of the corruption."""
        return self._hash(self.source.fingerprint())

    def version(self) -> str:
        """Hash of the source's version and of the corruption."""
        return self._hash(version(self.source))

    def _hash(self, of_source: str) -> str:
        return hashlib.sha256(repr((of_source, self.corruption, self.severity, self.seed)).encode()).hexdigest()

    def __repr__(self) -> str:
        return f"<{self.domain} of {self.source!r}>"


def suite(
    source: Any, names: str | Sequence[str] = "cityscapes-c", severities: Sequence[int] = SEVERITIES, seed: int = 0
) -> list[Corrupted]:
    """Corrupted views of a source. `names`: a suite, a family ("noise", ...), one corruption, or several of them."""
    wanted = [name for item in ([names] if isinstance(names, str) else names) for name in SUITES.get(item, (item,))]
    return [Corrupted(source, name, severity, seed) for name in wanted for severity in severities]

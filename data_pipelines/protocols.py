"""Test protocols: at which size an image is looked at. The name goes into every result: the size moves mIoU by points.

* `official-512`: the sizes Rein's 512 configs test at (Cityscapes inside 1024x512, BDD100K and GTAV 1280x720, Mapillary's
  half-size files inside 1024x512, ACDC 960x540). A data set the original never tested is fitted inside 1024x512.
* `official-1024`: Cityscapes inside 2048x1024 and ACDC inside 1920x1080, as Rein's 1024 configs. The original has no such
  configs for other sets; they are fitted inside 2048x1024 here (BDD100K and GTAV 1280x720, Mapillary from half-size files).
* `full`: every image as its file is.
* `fit-WxH`: every image inside W x H, for example `fit-1280x720`.

Images are resized with their ratio kept, bilinear without antialiasing; labels stay at the size of their file, and scores
are resized to it. The exception is Mapillary: the original evaluates on files halved beforehand, labels included.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.spelling import did_you_mean
from data_pipelines.transforms import keep_ratio_size, resize_pair

HALVED = "mapillary"


@dataclass(frozen=True)
class Protocol:
    """`fit` is the (width, height) an image is fitted inside (None: as it is), `fits` the exceptions by data set."""

    name: str
    fit: tuple[int, int] | None = None
    fits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    halves: bool = False

    def box(self, dataset: str) -> tuple[int, int] | None:
        """(width, height) that images of this data set are fitted inside, or None for the size of the file."""
        return self.fits.get(dataset, self.fit)

    def describe(self, dataset: str) -> str:
        """One phrase for tables: `official-512 (inside 1024x512)`."""
        box = self.box(dataset)
        size = "size of the file" if box is None else f"inside {box[0]}x{box[1]}"
        return f"{self.name} ({'half-size files, ' if self._halves(dataset) else ''}{size})"

    def apply(self, image: np.ndarray, label: np.ndarray | None, source: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Resized uint8 image and the label it is compared with. `source` tells the data set and whether it is halved already."""
        dataset = getattr(source, "name", str(source))
        if self._halves(dataset) and "half size" not in getattr(source, "found", ""):
            image, label = halve(image, label)
        box = self.box(dataset)
        if box is not None:
            image, _ = resize_pair(image, None, keep_ratio_size(*image.shape[:2], *box))
        return image, label

    def _halves(self, dataset: str) -> bool:
        return self.halves and dataset == HALVED


PROTOCOLS: dict[str, Protocol] = {
    "official-512": Protocol(
        "official-512", (1024, 512), {"bdd100k": (1280, 720), "acdc": (960, 540), "gtav": (1280, 720)}, halves=True
    ),
    "official-1024": Protocol(
        "official-1024", (2048, 1024), {"bdd100k": (1280, 720), "acdc": (1920, 1080), "gtav": (1280, 720)}, halves=True
    ),
    "full": Protocol("full"),
}


def protocol(name: str | Protocol) -> Protocol:
    """The protocol of this name; DataError for a name that is none."""
    if isinstance(name, Protocol):
        return name
    fit = re.fullmatch(r"fit-([1-9]\d*)x([1-9]\d*)", str(name))
    if fit:
        return Protocol(name, (int(fit[1]), int(fit[2])))
    if name not in PROTOCOLS:
        hint = did_you_mean(name, PROTOCOLS)
        raise DataError(f"Unknown test protocol {name!r}.{hint} Known: {', '.join(PROTOCOLS)}, or fit-WxH such as fit-1280x720.")
    return PROTOCOLS[name]


def halve(image: np.ndarray, label: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Half the size as Rein's script halves Mapillary: PIL bicubic (antialiased), saved as JPEG of quality 75; label nearest."""
    from PIL import Image

    size = (image.shape[1] // 2, image.shape[0] // 2)
    if min(size) < 1:
        raise DataError(f"An image of {image.shape[1]}x{image.shape[0]} cannot be halved: use the protocol 'full'.")
    file = io.BytesIO()
    Image.fromarray(image).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG")
    decoded = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    if label is not None:
        label = np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), label

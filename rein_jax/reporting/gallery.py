"""The best and the worst images of a domain, kept as small files while an evaluation runs; the report shows them."""

from __future__ import annotations

import heapq
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from data_pipelines.atomic import write_atomically

WIDTH = 640  # pixels of a kept panel
PARTS = ("image.jpg", "truth.png", "prediction.png")


@dataclass
class Gallery:
    """Keeps the `keep` best and `keep` worst images by IoU as three small files each: image, truth and prediction.

    truth and prediction are palette PNGs of train ids (255 black), so that they can be read as data and looked at.
    Several processes share the folder: each keeps its own best and worst, and process 0 calls `merge` when all have finished.
    """

    folder: Path
    keep: int
    palette: Sequence[tuple[int, int, int]]
    best: list[tuple[float, int]] = field(default_factory=list)
    worst: list[tuple[float, int]] = field(default_factory=list)

    def restore(self, scores: dict[int, float], process: int = 0, processes: int = 1) -> None:
        """Go on with the panels of an interrupted evaluation, {image: score} being what it measured; others are removed.

        Only panels of this process's images (every `processes`-th, from `process`) are looked at.
        """
        for index in panels(self.folder):
            if index % processes != process:
                continue
            if index in scores and not np.isnan(scores[index]):
                self._rank(index, scores[index])
            else:
                self._remove(index)

    def merge(self, scores: dict[int, float]) -> None:
        """Keep the best and worst among the panels of all processes, {image: score} being what they measured."""
        self.best, self.worst = [], []
        self.restore(scores)

    def offer(self, index: int, score: float, image: np.ndarray, label: np.ndarray, prediction: np.ndarray) -> None:
        """Keep this image if it is among the best or worst so far. image uint8 [h,w,3] RGB; maps uint8 [H,W]."""
        if np.isnan(score) or not self._rank(index, score):
            return
        height, width = label.shape
        size = (min(WIDTH, width), max(1, round(height * min(WIDTH, width) / width)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        self._write(index, PARTS[0], cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes())
        for part, labels in zip(PARTS[1:], (label, prediction), strict=True):
            self._write(index, part, self._png(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)))

    def _rank(self, index: int, score: float) -> bool:
        """Enter the image in both lists; whether it stayed in one of them. Files of images that fell out are removed."""
        before = {i for _, i in self.best + self.worst}
        for heap, item in ((self.best, (score, index)), (self.worst, (-score, index))):
            heapq.heappush(heap, item)
            if len(heap) > self.keep:
                heapq.heappop(heap)
        after = {i for _, i in self.best + self.worst}
        for gone in (before | {index}) - after:
            self._remove(gone)
        return index in after

    def _remove(self, index: int) -> None:
        for part in PARTS:
            (self.folder / _file(index, part)).unlink(missing_ok=True)

    def _write(self, index: int, part: str, data: bytes) -> None:
        write_atomically(self.folder / _file(index, part), data, sync=False)

    def _png(self, labels: np.ndarray) -> bytes:
        image, file = Image.fromarray(labels), io.BytesIO()
        image.putpalette(palette_bytes(self.palette))
        image.save(file, "PNG")
        return file.getvalue()


def palette_bytes(palette: Sequence[tuple[int, int, int]]) -> bytes:
    """256 RGB colours: the classes, and black for every other value."""
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    return colours.tobytes()


def panels(folder: Path) -> list[int]:
    """Images whose files lie in the folder (the prediction is written last)."""
    return sorted(int(found[1]) for path in folder.glob(f"*.{PARTS[2]}") if (found := re.match(r"([0-9]{6,15})\.", path.name)))


def _file(index: int, part: str) -> str:
    return f"{index:06d}.{part}"

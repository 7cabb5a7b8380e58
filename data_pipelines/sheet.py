"""One picture of several images with their labels laid over, to see at a glance whether data and labels belong together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from data_pipelines.labels import VOID, ClassInfo

TILE = 520  # width in pixels
CAPTION, MARGIN, SWATCH = 26, 10, 150


def overlay(image: np.ndarray, label: np.ndarray, classes: ClassInfo, strength: float = 0.55) -> np.ndarray:
    """uint8 RGB [H, W, 3] of the image with class colours laid over; void pixels are striped dark."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(classes)] = classes.palette
    mixed = cv2.addWeighted(image, 1 - strength, palette[label], strength, 0)
    rows, columns = np.indices(label.shape, sparse=True)
    stripes = (label == VOID) & ((rows + columns) // max(2, label.shape[1] // 120) % 2 == 0)
    mixed[stripes] = image[stripes] // 3
    return mixed


def sheet(elements: Sequence[dict[str, Any]], classes: ClassInfo, columns: int = 3) -> np.ndarray:
    """uint8 RGB picture: every element as the image above its overlay, captioned, with a legend of the classes that occur."""
    tiles = [_tile(element, classes) for element in elements]
    height = max(tile.shape[0] for tile in tiles)
    tiles = [_pad(tile, height, TILE) for tile in tiles]
    columns = min(columns, len(tiles))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    gap = np.full((height, MARGIN, 3), 255, np.uint8)
    rows = []
    for start in range(0, len(tiles), columns):
        row = [part for tile in tiles[start : start + columns] for part in (gap, tile)]
        rows.append(np.concatenate([*row, gap], axis=1))
    present = sorted(set(np.unique(np.concatenate([np.unique(e["label"]) for e in elements])).tolist()) - {VOID})
    return np.concatenate([*rows, _legend(present, classes, rows[0].shape[1])], axis=0)


def _tile(element: dict[str, Any], classes: ClassInfo) -> np.ndarray:
    image, label = element["image"], element["label"]
    scale = TILE / image.shape[1]
    size = (TILE, max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    laid = overlay(small, cv2.resize(label, size, interpolation=cv2.INTER_NEAREST), classes)
    caption = np.full((CAPTION, TILE, 3), 255, np.uint8)
    name = element["name"]
    _write(caption, name if len(name) <= 62 else f"...{name[-59:]}", (2, 18))
    return np.concatenate([caption, small, laid], axis=0)


def _pad(tile: np.ndarray, height: int, width: int) -> np.ndarray:
    padded = np.full((height, width, 3), 255, np.uint8)
    padded[: tile.shape[0], : tile.shape[1]] = tile
    return padded


def _legend(present: Sequence[int], classes: ClassInfo, width: int) -> np.ndarray:
    per_row = max(1, (width - MARGIN) // SWATCH)
    rows = -(-(len(present) + 1) // per_row)
    legend = np.full((rows * CAPTION + MARGIN, width, 3), 255, np.uint8)
    entries = [(classes.names[k], classes.palette[k]) for k in present] + [("void (striped)", (60, 60, 60))]
    for k, (name, colour) in enumerate(entries):
        x, y = MARGIN + k % per_row * SWATCH, MARGIN // 2 + k // per_row * CAPTION
        cv2.rectangle(legend, (x, y + 4), (x + 20, y + 20), tuple(int(c) for c in colour), -1)
        _write(legend, name[:18], (x + 26, y + 18))
    return legend


def _write(picture: np.ndarray, text: str, place: tuple[int, int]) -> None:
    text = text.encode("ascii", "replace").decode()
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (20, 20, 20), 1, cv2.LINE_AA)

"""Predicted label maps as PNG files of train ids, and scores of such files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from data_pipelines.atomic import write_atomically
from data_pipelines.files import read_file
from data_pipelines.pictures import open_picture, pixels
from rein_jax.errors import UserError
from rein_jax.evaluation.windows import Answer, Query


def prediction_file(folder: Path, name: str) -> Path:
    """Where the prediction for an element of that name lies: the name with .png, below the folder."""
    parts = [part for part in Path(name).parts if part not in ("/", "..", ".")]
    return Path(folder, *parts).with_suffix(".png")


def write_prediction(folder: Path, name: str, labels: np.ndarray) -> Path:
    """One 8-bit single-channel PNG of train ids."""
    path = prediction_file(folder, name)
    write_atomically(path, cv2.imencode(".png", labels)[1].tobytes())
    return path


def read_prediction(path: Path) -> np.ndarray:
    """uint8 [H, W] of an 8-bit single-channel PNG (palette indices as they are); anything else is a UserError."""
    if not path.exists():
        raise UserError(f"{path} is missing; there must be one prediction for each image.")
    with open_picture(read_file(path), str(path)) as image:
        if image.mode not in ("L", "P"):
            raise UserError(f"{path} is a {image.mode} image; a prediction is an 8-bit single-channel PNG of class numbers.")
        return pixels(image, str(path))


class Files:
    """Stands in for a model: answers with the files below a folder that bear the images' names (with or without folders)."""

    def __init__(self, folder: Path):
        self.folder = folder

    def stream(self, queries: Iterable[Query]) -> Iterator[Answer]:
        """Answers in the order of the queries."""
        for query in queries:
            path = prediction_file(self.folder, query.name)
            flat = self.folder / path.name
            yield Answer(query.tag, read_prediction(flat if flat.exists() and not path.exists() else path), None)

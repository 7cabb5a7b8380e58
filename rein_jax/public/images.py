"""What may be given as an image: a path, an array, or a picture of Pillow's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.paths import local_path
from rein_jax.errors import UserError
from rein_jax.predict import pixels


def several(images: Any) -> bool:
    """Whether more than one image is meant: a list or tuple, or an array [B, H, W, 3]."""
    return isinstance(images, list | tuple) or getattr(images, "ndim", 3) == 4


def read(image: Any, number: int = 0) -> tuple[str, np.ndarray]:
    """(name without suffix, uint8 [H, W, 3]) of one image.

    Raises:
        UserError: neither a path nor a uint8 RGB array. DataError: the file is no picture.
    """
    if isinstance(image, str | Path):
        path = local_path(image)
        if path.is_dir():
            raise UserError(f"{path} is a folder; give a list of its pictures, or use rein_jax.predict.predict_files for whole folders.")
        return path.stem, pixels.read(path)
    return f"image-{number}", check(image.convert("RGB") if hasattr(image, "convert") else image)


def check(image: Any, axes: int = 3) -> np.ndarray:
    """The array, if it is uint8 RGB [H, W, 3] (axes 4: [B, H, W, 3])."""
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != axes or array.shape[-1] != 3 or not array.size:
        wanted = "[H, W, 3]" if axes == 3 else "[B, H, W, 3]"
        raise UserError(f"Images must be uint8 RGB of shape {wanted}, not {array.dtype} {array.shape}; "
                        "scale to 0..255 and put the channels last.")  # fmt: skip
    return array

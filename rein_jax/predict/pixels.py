"""Reading untrusted pictures: the size in the header is looked at before a single pixel is decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_pipelines.files import read_file
from data_pipelines.images import decode_image
from data_pipelines.pictures import FORMATS, SUFFIXES, open_picture

MEGAPIXELS = 64.0

__all__ = ["FORMATS", "MEGAPIXELS", "SUFFIXES", "decode", "read"]


def decode(data: bytes, name: str, megapixels: float = MEGAPIXELS, formats: tuple[str, ...] = FORMATS) -> np.ndarray:
    """Encoded picture -> uint8 [H, W, 3] RGB. DataError for anything else, TooLarge for more than that many million pixels."""
    open_picture(data, name, formats, max_pixels=megapixels * 1e6).close()
    return decode_image(data, name)


def read(path: Path, megapixels: float = MEGAPIXELS) -> np.ndarray:
    """`decode` of a file; a file that cannot be read is a DataError too."""
    return decode(read_file(path), str(path), megapixels)

"""Reading pictures from strangers: the size in the header is looked at before a single pixel is decoded."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from data_pipelines.errors import DataError
from data_pipelines.images import decode_image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")
MEGAPIXELS = 64.0


def header_size(data: bytes, name: str, formats: tuple[str, ...] = FORMATS) -> tuple[int, int]:
    """(width, height) that the header states; DataError if it is no picture of these formats, whatever the file is called."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures; the caller's own limit decides
            with Image.open(io.BytesIO(data), formats=formats) as picture:
                return picture.size
    except Image.DecompressionBombError:
        raise DataError(f"{name} states more pixels than any camera takes; it is refused before decoding.") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, ArithmeticError):
        raise DataError(f"{name} is not a picture that can be read ({', '.join(formats)} are); what counts is what is in the file, "
                        "not its name.") from None


def decode(data: bytes, name: str, megapixels: float = MEGAPIXELS, formats: tuple[str, ...] = FORMATS) -> np.ndarray:
    """Encoded picture -> uint8 [H, W, 3] RGB. DataError for anything else, and for more than that many million pixels."""
    width, height = header_size(data, name, formats)
    if width * height > megapixels * 1e6:
        raise DataError(f"{name} has {width}x{height} pixels; at most {megapixels:g} million are taken. Make it smaller first.")
    return decode_image(data, name)


def read(path: Path, megapixels: float = MEGAPIXELS) -> np.ndarray:
    """`decode` of a file; a file that cannot be read is a DataError too."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from None
    return decode(data, str(path), megapixels)

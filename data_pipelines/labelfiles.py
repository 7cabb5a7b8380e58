"""Pictures that cannot hold labels: formats that change values, colour spaces that are no RGB, content in the alpha channel alone."""

from __future__ import annotations

import numpy as np

from data_pipelines import tiff
from data_pipelines.errors import DataError


def refuse_unfit(data: bytes, file: str, what: str) -> None:
    """Raises DataError for the formats that do not keep the pixels of a label, or whose values can be meant in two ways."""
    header = tiff.facts(data)
    if header is not None and header.photometric == 0:
        raise DataError(f"{file} is a TIFF that stores white as 0 (MinIsWhite), so that its values may be inverted; save labels as PNG.")
    lossy = (
        "a JPEG" if data.startswith(b"\xff\xd8\xff")
        else "a lossy WebP" if _lossy_webp(data)
        else "a lossy JPEG 2000" if _lossy_jpeg2000(data)
        else "a TIFF compressed as JPEG" if header is not None and header.jpeg
        else None
    )  # fmt: skip
    if lossy:
        raise DataError(f"{file} is {lossy}, which changes label {what}; save labels as PNG.")


def mode_of(picture, file: str) -> str:
    """The mode of an opened label picture; colour spaces that are no RGB raise DataError."""
    if picture.mode in ("CMYK", "LAB", "YCbCr", "HSV"):
        raise DataError(f"{file} is stored as {picture.mode}, which does not keep label colours; save labels as PNG.")
    return picture.mode


def refuse_alpha_alone(colours: np.ndarray, alpha: np.ndarray, file: str) -> None:
    """Raises DataError if all that differs between pixels is how transparent they are."""
    if alpha.size and (alpha != alpha.flat[0]).any() and (colours == colours[0, 0]).all():
        raise DataError(
            f"{file} has its content in the alpha channel alone (its colours are the same everywhere); save that channel as a grey PNG."
        )


def _lossy_webp(data: bytes) -> bool:
    """Whether the first frame of a WebP is stored lossily: the first chunk of pixels is `VP8 `, not `VP8L`."""
    at = 12 if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else len(data)
    while at + 8 <= len(data) and data[at : at + 4] not in (b"VP8 ", b"VP8L"):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 24 if data[at : at + 4] == b"ANMF" else 8 + length + length % 2  # a frame holds chunks itself
    return data[at : at + 4] == b"VP8 "


def _lossy_jpeg2000(data: bytes) -> bool:
    """Whether a JPEG 2000 states the irreversible wavelet in its coding style (marker FF52)."""
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    at = data.find(b"\xff\x52", start, start + 4096) if start >= 0 else -1
    return at >= 0 and data[at + 13 : at + 14] == b"\0"

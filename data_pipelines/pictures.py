"""The one door for pictures: a file is told by its whole signature, and nothing but the promised formats is opened.

Pillow knows some forty formats and, asked to open any, tries them all; for one of them (EPS) it starts another program on the
file. Every picture that this project reads, of a data set, of `rein predict` or sent to `rein serve`, comes through
`open_picture` or `require`, which look at the first bytes and never at the name.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence

import numpy as np
from PIL import Image

from data_pipelines import tiff
from data_pipelines.errors import DataError
from data_pipelines.files import shown

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # `limit` decides, in one sentence

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "JPEG2000", "PPM")
SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".jp2", ".ppm")
MAX_PIXELS = 178_956_970  # 13,377 x 13,377, half a GiB as RGB: where Pillow refuses a decompression bomb

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0\x08\0\0\0", "TIFF"),
    (b"MM\0+\0\x08\0\0", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51\0", "JPEG2000"),
)
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes of the header that follows a bitmap's first 14
_AGAIN = "the download failed; fetch it again"
_SAVE = "save it as PNG"
# What people have in place of a picture: (start, what it is, what to do).
_OTHERS = (
    (rb"%!PS|\xc5\xd0\xd3\xc6", "an EPS or PostScript drawing", _SAVE),
    (rb"%PDF-", "a PDF", _SAVE),
    (rb"8BPS\0[\1\2]", "a Photoshop file", _SAVE),
    (rb"....ftyp(?:heic|heix|hevc|heim|mif1|msf1)", "a HEIC photo", "save it as JPEG or PNG"),
    (rb"....ftypavi[fs]", "an AVIF picture", "save it as JPEG or PNG"),
    (rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?(?:<!DOCTYPE svg[^>]*>\s*)?<svg[\s>]", "an SVG drawing", _SAVE),
    (rb"\s*<(?:!doctype html|html)[\s>]", "a web page", _AGAIN),
    (rb"\s*<\?xml|\s*<Error>", "an XML text", _AGAIN),
    (rb"version https://git-lfs\.github\.com/spec/", "a pointer of Git LFS and not the file itself", "run `git lfs pull`"),
    (rb"PK\x03\x04|PK\x05\x06", "a .zip or Office file", "unpack it"),
    (rb"\x1f\x8b\x08", "packed by gzip", "unpack it"),
    (rb"\x93NUMPY", "a NumPy array", _SAVE),
    (rb"\x89HDF\r\n\x1a\n", "an HDF5 file", _SAVE),
    (rb"\x76\x2f\x31\x01", "an OpenEXR picture", _SAVE),
    (rb"\0\0[\1\2]\0[^\0]", "an icon", _SAVE),
    (rb".{128}DICM", "a DICOM picture", _SAVE),
)  # fmt: skip
_COMPILED = tuple((re.compile(start, re.DOTALL | re.IGNORECASE), what, fix) for start, what, fix in _OTHERS)


def kind(data: bytes) -> str | None:
    """The format of an encoded picture as Pillow names it, by its whole signature; None if it is none of FORMATS."""
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and data[12:16] in (b"VP8 ", b"VP8L", b"VP8X"):
        return "WEBP"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if re.match(rb"P[1-6][\s#]", data):
        return "PPM"
    return None


def describe(data: bytes) -> tuple[str, str] | None:
    """(what it is, what to do) for the files that people have in place of pictures; None for what is not known."""
    return next(((what, fix) for start, what, fix in _COMPILED if start.match(data[:4096])), None)


def is_video(begin: bytes) -> bool:
    """Whether the first bytes of a file (at least 190) are those of a container of videos: MP4 and MOV, AVI, Matroska and WebM, MPEG.

    OpenCV would open lists of other files and addresses too, which are plain text.
    """
    boxes = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
    begins = (b"\x1a\x45\xdf\xa3", b"\0\0\1\xba", b"\0\0\1\xb3")
    transport = begin[:1] == begin[188:189] == b"G"  # packets of 188 bytes
    return begin[4:8] in boxes or begin.startswith(begins) or (begin[:4] == b"RIFF" and begin[8:12] == b"AVI ") or transport


class TooLarge(DataError):
    """A picture has more pixels than are taken."""


def require(data: bytes, file: str, formats: Sequence[str] = FORMATS) -> str:
    """The format of a picture; a DataError that names `file` if it is not one of `formats`, whatever its name says."""
    found = kind(data)
    if found in formats:
        return found
    what, fix = describe(data) or (f"a picture of the format {found}" if found else "", _SAVE)
    if what:
        raise DataError(f"{file} is {what}; {', '.join(formats)} are read: {fix}.")
    raise DataError(f"{file} cannot be decoded, its content is none of {', '.join(formats)}; fetch it again or remove it.")


def limit(width: int, height: int, file: str, max_pixels: float = MAX_PIXELS) -> None:
    """Raises TooLarge if a picture of this size has more than `max_pixels` pixels."""
    if width * height > max_pixels:
        raise TooLarge(f"{file} has {width}x{height} pixels; at most {max_pixels / 1e6:.4g} million are accepted. Make it smaller first.")


def open_picture(data: bytes, file: str, formats: Sequence[str] = FORMATS, *, max_pixels: float = MAX_PIXELS) -> Image.Image:
    """A picture of `formats`, opened but not decoded: its header has been read.

    Args:
        data: the encoded picture.
        file: its name for messages.
        formats: those that are taken, out of FORMATS.
        max_pixels: width x height at most; more is refused before a pixel is decoded.

    Raises:
        DataError: it is none of these formats or damaged.
        TooLarge: it has more pixels.
    """
    require(data, file, formats)
    try:
        picture = Image.open(io.BytesIO(data), formats=tuple(formats))
    except Image.DecompressionBombError:
        raise TooLarge(f"{file} states more pixels than any camera produces; it is refused before decoding.") from None
    except Exception:  # a damaged header makes Pillow's readers raise nearly anything
        why = tiff.odd(data) or "cannot be decoded, its header is damaged; fetch it again or remove it"
        raise DataError(f"{file} {why}.") from None
    try:
        limit(*picture.size, file, max_pixels)
    except TooLarge:
        picture.close()
        raise
    return picture


def pixels(picture: Image.Image, file: str, mode: str | None = None) -> np.ndarray:
    """The pixels of an opened picture, converted to `mode` if given; DataError with the name `file` if they are damaged."""
    try:
        return np.array(picture if mode is None else picture.convert(mode))
    except Exception as error:  # damaged data make Pillow's readers raise nearly anything
        raise DataError(f"{file} is damaged ({shown(str(error))}); fetch it again or remove it.") from None

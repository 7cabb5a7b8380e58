"""Encoded bytes -> pixels: the one decoder for images and labels, and what it does with odd files.

Images become uint8 [H, W, 3] RGB:
  * a palette, 1-bit or grey picture is expanded, the alpha channel is dropped, 16 bits keep the high byte (as OpenCV does), and
    10, 12 or 14 bits stored in 16 are scaled by the file's own range, with a warning (`depth.py`);
  * an EXIF-turned photo is turned upright, as OpenCV and so mmseg does; `exif="ignore"` leaves it as stored
    (only differing sizes show that a label was drawn on the other version, so `rein data check` lists every such photo);
  * formats other than those of `pictures.FORMATS`, more than `pictures.MAX_PIXELS` pixels, CMYK, truncated, empty, undecodable
    files, TIFFs of numbers or colours that are no RGB (`tiff.py`) and sides below 8 pixels raise a DataError that names the file;
    of several pages or frames the first is read;
  * damage in the middle of a JPEG that libjpeg patches over cannot be seen here; the checksums of prepared data guard against
it. Labels become integer [H, W], values untouched: palette indices, grey values of 1 to 16 bits (not stretched to 0..255), or
one of three equal channels; EXIF marks are never obeyed. A JPEG or lossy WebP, a float or a true-colour picture in place of a
label raises, and so does a picture whose only content is in its alpha channel.
"""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np

from data_pipelines import depth, pictures, tiff
from data_pipelines.errors import DataError
from data_pipelines.labelfiles import mode_of, refuse_alpha_alone, refuse_unfit
from data_pipelines.pictures import limit, open_picture, require
from data_pipelines.png import SIGNATURE as _PNG
from data_pipelines.png import palette_indices, stored

SMALLEST = 8  # pixels; a smaller side is a broken thumbnail, not a scene
_PNG_END, _JPEG = b"IEND\xaeB`\x82", b"\xff\xd8\xff"
_GREY_STEP = {2: 85, 4: 17}  # PIL stretches 2- and 4-bit grey to 0..255; dividing by this gives the stored value back


def decode_image(data: bytes, file: str, *, exif: str = "apply") -> np.ndarray:
    """Encoded picture -> uint8 [H, W, 3] RGB; raises DataError with the name `file`."""
    pixels, bits = _photo(data, file, exif)
    if bits is not None:
        depth.warn(bits, file)
    if pixels is None:
        raise DataError(f"{file} cannot be decoded as an image, it is damaged: fetch it again or remove the pair.")
    if min(pixels.shape[:2]) < SMALLEST:
        height, width = pixels.shape[:2]
        raise DataError(
            f"{file} is only {width}x{height} pixels (smallest side allowed: {SMALLEST}); replace it or remove the pair."
        )
    return pixels


def used_bits(data: bytes, file: str) -> int | None:
    """Bits a channel that a picture uses of the 16 that it is stored in; None if it uses all or is not stored in 16."""
    return _photo(data, file, "ignore")[1] if _may_be_wide(data, check_whole(data, file)) else None


def _photo(data: bytes, file: str, exif: str) -> tuple[np.ndarray | None, int | None]:
    """(RGB pixels or None if they are damaged, the answer of `used_bits`)."""
    kind = check_whole(data, file)
    turn = cv2.IMREAD_IGNORE_ORIENTATION if exif == "ignore" else 0
    if kind == "GIF":  # OpenCV blends what is transparent
        with open_picture(data, file) as picture:
            return pictures.pixels(picture, file, "RGB"), None
    if odd := tiff.odd(data):
        raise DataError(f"{file} {odd}.")
    if _may_be_wide(data, kind):
        # BGR, then turned: OpenCV 5 returns noise for 16-bit TIFF files as RGB
        raw = _decoded(stored(data), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | turn)
        return _eight_bits(raw, data, kind)
    return _decoded(stored(data), cv2.IMREAD_COLOR_RGB | turn), None


def _may_be_wide(data: bytes, kind: str) -> bool:
    """Whether a picture may hold more than 8 bits a channel, or state its own value of white."""
    return kind in ("TIFF", "JPEG2000", "PPM") or _png_kind(data)[0] == 16


def _eight_bits(raw: np.ndarray | None, data: bytes, kind: str) -> tuple[np.ndarray | None, int | None]:
    """(RGB of 8 bits, bits of 16 that were used if not all) of BGR as stored in a file."""
    if raw is None or raw.dtype not in (np.uint8, np.uint16):
        return None, None
    bits, largest = None, depth.netpbm_largest(data) if kind == "PPM" else None
    if largest is not None:
        raw = depth.by_largest(raw, largest)
    elif raw.dtype == np.uint16:
        header = tiff.facts(data)
        raw, used = depth.narrow(raw, depth.png_bits(data) if header is None else header.largest.bit_length())
        bits = None if used == 16 else used
    return np.ascontiguousarray(raw[..., ::-1]), bits


def decode_label(data: bytes, file: str) -> np.ndarray:
    """Encoded label picture -> integer [H, W] of the values as stored (uint8 where they fit, else uint16 or int32).

    OpenCV reads what it reads faithfully (and faster), Pillow the rest: OpenCV would expand palettes, Pillow cuts 16-bit
    colour.
    """
    refuse_unfit(data, file, "values")
    kind = check_whole(data, file)
    values = palette_indices(data)
    if values is not None:
        return values
    bits, colour = _png_kind(data)
    if (bits, colour) in ((8, 0), (16, 2), (16, 6)) or (kind == "PPM" and depth.netpbm_largest(data) is not None):
        raw = _unchanged(data, file)
    else:
        raw = _pillow(data, file)
    if raw.ndim == 3:
        raw = _one_channel(raw, file)
    if colour == 0 and bits in _GREY_STEP:
        raw = raw // _GREY_STEP[bits]
    return raw


def decode_synthia(data: bytes, file: str) -> np.ndarray:
    """Synthia's 16-bit three-channel label -> uint16 [H, W] class ids (red; green holds the instance)."""
    check_whole(data, file)
    raw = _unchanged(data, file)
    if raw.ndim != 3 or raw.dtype != np.uint16:
        raise DataError(f"{file} is not the 16-bit three-channel label PNG that Synthia publishes; use the files of GT/LABELS.")
    return raw[..., 2]


def decode_colours(data: bytes, file: str) -> np.ndarray:
    """Colour-coded label -> uint8 [H, W, 3] RGB as stored; a palette is expanded, alpha dropped."""
    refuse_unfit(data, file, "colours")
    check_whole(data, file)
    _check_sums(data, file)
    with open_picture(data, file) as picture:
        mode = mode_of(picture, file)
        if mode in ("LA", "PA", "RGBA"):
            whole = pictures.pixels(picture, file, "RGBA")
            refuse_alpha_alone(whole[..., :3], whole[..., 3], file)
            return np.ascontiguousarray(whole[..., :3])
        if not mode.startswith("I"):
            return pictures.pixels(picture, file, "RGB")
    values = decode_label(data, file)
    if values.size and not 0 <= values.min() <= values.max() <= 255:
        raise DataError(f"{file} holds values up to {values.max()}, which are not colours; save colour-coded labels with 8 bits.")
    return np.repeat(values.astype(np.uint8)[..., None], 3, 2)


def label_mode(data: bytes, file: str) -> str:
    """PIL's name for the pixel format of a label file ("L", "P", "RGB", "I;16", ...), read from the header."""
    check_whole(data, file)
    with open_picture(data, file) as picture:
        return mode_of(picture, file)


def label_palette(data: bytes, file: str) -> np.ndarray:
    """Palette of a mode "P" label, uint8 [entries, 3]."""
    with open_picture(data, file) as picture:
        pictures.pixels(picture, file)  # loads it, so that damage is told
        return np.array(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3)


def orientation(data: bytes) -> int:
    """EXIF orientation 1..8; 1 (upright) when the file says nothing."""
    try:
        with open_picture(data, "") as picture:
            turn = picture.getexif().get(0x0112, 1)
    except Exception:  # a damaged EXIF part makes Pillow raise nearly anything; the picture itself may be whole
        return 1
    return turn if turn in range(1, 9) else 1


def check_whole(data: bytes, file: str) -> str:
    """The format of a picture; DataError if it is empty, of a format that is not read, cut short, too large or a CMYK JPEG.

    Costs microseconds: no pixel is decoded.
    """
    if not data:
        raise DataError(f"{file} is empty (0 bytes); fetch it again or remove the pair.")
    if len(data) < len(_PNG) and (_PNG.startswith(data) or _JPEG.startswith(data[:3])):
        raise _truncated(file)
    kind = require(data, file)
    if kind == "JPEG":
        (width, height), components, scan = _jpeg_header(data, file)
        if components == 4:
            raise DataError(f"{file} is a CMYK JPEG, whose colours depend on a print profile; convert it to RGB.")
        if data.rfind(b"\xff\xd9", scan) < 0:
            raise _truncated(file)
        limit(width, height, file)
    elif kind == "PNG":
        if len(data) < 33 or data.rfind(_PNG_END) < 0:
            raise _truncated(file)
        limit(*struct.unpack_from(">II", data, 16), file)
    else:
        open_picture(data, file).close()
    return kind


def _truncated(file: str) -> DataError:
    return DataError(f"{file} is truncated (its end is missing); fetch it again or remove the pair.")


def _jpeg_header(data: bytes, file: str) -> tuple[tuple[int, int], int, int]:
    """((width, height), number of colour components, where the picture data start)."""
    at, size, components = 2, (0, 0), 3
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        length = struct.unpack_from(">H", data, at + 2)[0]
        if marker == 0xDA:
            return size, components, at + 2 + length
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 9 < len(data):
            if data[at + 4] in (12, 16):
                raise DataError(f"{file} is a {data[at + 4]}-bit JPEG, which is not read; save it as PNG, or as JPEG of 8 bits.")
            height, width, components = struct.unpack_from(">HHB", data, at + 5)
            size = width, height
        at += 2 + length
    raise _truncated(file)


def _check_sums(data: bytes, file: str) -> None:
    """Raises DataError if a part of a PNG does not have its checksum; Pillow does not look at those of the pixels."""
    at = len(_PNG)
    while data[:8] == _PNG and at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 8 + length
        if zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big") or end + 4 > len(data):
            raise DataError(f"{file} is damaged (wrong checksum); fetch it again or remove the pair.")
        if data[at + 4 : at + 8] == b"IEND":
            return
        at = end + 4


def _png_kind(data: bytes) -> tuple[int, int]:
    """Bit depth and colour type of a PNG (0 grey, 2 RGB, 3 palette, 4 grey+alpha, 6 RGBA); (8, 2) for other formats."""
    return (data[24], data[25]) if data[:8] == _PNG and len(data) > 25 else (8, 2)


def _decoded(data: bytes, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None


def _unchanged(data: bytes, file: str) -> np.ndarray:
    raw = _decoded(data, cv2.IMREAD_UNCHANGED)
    if raw is None:
        raise DataError(f"{file} cannot be decoded as a label picture; it is damaged: fetch it again or remove the pair.")
    return raw


def _pillow(data: bytes, file: str) -> np.ndarray:
    _check_sums(data, file)
    with open_picture(data, file) as picture:
        mode_of(picture, file)
        raw = pictures.pixels(picture, file)
    if raw.dtype == bool:
        return raw.astype(np.uint8)
    if raw.dtype.kind not in "iu":
        raise DataError(f"{file} holds {raw.dtype} values; labels must be whole numbers, saved as PNG.")
    return raw


def _one_channel(raw: np.ndarray, file: str) -> np.ndarray:
    colours = raw[..., :1] if raw.shape[2] == 2 else raw[..., :3]
    if raw.shape[2] in (2, 4):
        refuse_alpha_alone(colours, raw[..., -1], file)
    first = colours[..., 0]
    if not all(np.array_equal(first, colours[..., k]) for k in range(1, colours.shape[2])):
        raise DataError(
            f"{file} is a colour picture where class ids are expected; use the id files of the data set, "
            "or data set 'folder' with a class list that gives the colours."
        )
    return np.ascontiguousarray(first)

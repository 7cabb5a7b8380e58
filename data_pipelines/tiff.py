"""What the header of a TIFF says about its pixels: TIFF holds kinds of pictures that decoders silently turn into something else."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_TAGS = {258: "bits", 259: "compression", 262: "photometric", 277: "bands", 281: "largest", 339: "format"}
_WIDTHS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # the types that these tags have
_CMYK, _LAB, _JPEG = 5, (8, 9, 10), (6, 7)
_SAVE = "convert it to RGB and save it as PNG"


@dataclass(frozen=True)
class Facts:
    """Tags of the first page: bits a sample, compression, colour space, samples a pixel, kind of numbers (1 = unsigned), and the
    largest value that is stated (0 = none)."""

    bits: int = 1
    compression: int = 1
    photometric: int = 1
    bands: int = 1
    largest: int = 0
    format: int = 1

    @property
    def jpeg(self) -> bool:
        return self.compression in _JPEG


def facts(data: bytes) -> Facts | None:
    """The facts of a TIFF or BigTIFF; None if it is none or its header is damaged."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    try:
        version = struct.unpack_from(f"{order}H", data, 2)[0] if order else 0
        if version == 42:
            return Facts(**_read(data, order, *struct.unpack_from(f"{order}I", data, 4), "H", "I"))
        if version == 43:
            return Facts(**_read(data, order, *struct.unpack_from(f"{order}Q", data, 8), "Q", "Q"))
    except struct.error:
        pass
    return None


def _read(data: bytes, order: str, at: int, counts: str, offsets: str) -> dict[str, int]:
    """The wanted tags of the directory at `at`; of several values the first, which all samples have in common."""
    found, whole = {}, struct.calcsize(f"={offsets}")
    count = struct.unpack_from(order + counts, data, at)[0]
    at += struct.calcsize(f"={counts}")
    for _ in range(min(count, 1000)):
        tag, kind, values = struct.unpack_from(f"{order}HH{offsets}", data, at)
        if tag in _TAGS and kind in _WIDTHS and values:
            place = at + 4 + whole
            if values * struct.calcsize(f"={_WIDTHS[kind]}") > whole:
                place = struct.unpack_from(order + offsets, data, place)[0]
            found[_TAGS[tag]] = struct.unpack_from(order + _WIDTHS[kind], data, place)[0]
        at += 4 + 2 * whole
    return found


def odd(data: bytes) -> str | None:
    """Why a TIFF is no photo that can be read as RGB, and what to do, as the end of a sentence; None where it can be, or no TIFF."""
    found = facts(data)
    if found is None:
        return None
    if found.format == 3:
        return f"holds {found.bits}-bit floating-point values, whose range is not known; save it with 8 or 16 bits a channel"
    if found.format in (5, 6):
        return "holds complex numbers; save it with 8 or 16 bits a channel"
    if found.photometric == _CMYK:
        return f"is a CMYK TIFF, whose colours depend on a print profile; {_SAVE}"
    if found.photometric in _LAB:
        return f"is a TIFF in CIE L*a*b*, whose colours depend on a white point; {_SAVE}"
    if found.bits not in (1, 2, 4, 8, 16):
        return f"holds {found.bits}-bit samples, which are not read; save it with 8 or 16 bits a channel"
    if found.format == 2:
        return "holds signed numbers; save it with 8 or 16 unsigned bits a channel"
    if found.bands > 4:
        return f"has {found.bands} bands; choose three of them, red, green and blue, and save these"
    return None

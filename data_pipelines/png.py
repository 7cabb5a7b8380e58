"""Faster PNG decoding, same pixels: inflating is most of the work, and ISA-L inflates three times faster than zlib.

OpenCV and Pillow inflate with zlib. `stored` inflates with `isal` (if that package is installed) and wraps the bytes as a PNG
with uncompressed data, which any decoder then only has to unfilter. `palette_indices` reads unfiltered palette pictures
itself. Checksums are verified; a file with anything unusual is left to the decoder, and so are its errors.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

try:
    from isal import isal_zlib
except ImportError:  # optional: without it files are decoded as they are
    isal_zlib = None

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by PNG colour type
_BLOCK = 65535  # longest stored block of deflate
WORTHWHILE = 1 << 16  # bytes of a file below which wrapping costs what it gains


def stored(data: bytes) -> bytes:
    """The same PNG with its pixel data uncompressed; `data` itself if it is not a plain, whole PNG or `isal` is missing."""
    if isal_zlib is None or len(data) < WORTHWHILE or data[:8] != SIGNATURE:
        return data
    try:
        _, raw, before, after = _inflated(data)
    except (ValueError, struct.error, KeyError, isal_zlib.error):
        return data
    payload = _as_stored(raw)
    checksum = struct.pack(">I", isal_zlib.crc32(payload, isal_zlib.crc32(b"IDAT")))
    return b"".join([SIGNATURE, *before, struct.pack(">I", len(payload)), b"IDAT", payload, checksum, data[after:]])


def palette_indices(data: bytes) -> np.ndarray | None:
    """Indices uint8 [H, W] of an 8-bit palette PNG without row filters, as label maps are mostly written; None for others."""
    if isal_zlib is None or data[:8] != SIGNATURE or data[24:26] != b"\x08\x03":
        return None
    try:
        (height, width), raw, _, _ = _inflated(data)
    except (ValueError, struct.error, isal_zlib.error):
        return None
    rows = np.frombuffer(raw, np.uint8).reshape(height, 1 + width)
    return None if rows[:, 0].any() else rows[:, 1:].copy()


def _inflated(data: bytes) -> tuple[tuple[int, int], bytes, list[bytes], int]:
    """((height, width), filtered rows, chunks before the pixel data, where the pixel data end); raises on anything unusual."""
    header, before, packed, after = b"", [], [], 0
    for kind, start, end in _chunks(data):
        if kind == b"IDAT":
            packed.append(data[start + 8 : end - 4])
            after = end
        elif kind == b"acTL":
            raise ValueError("animated")
        elif not packed:
            before.append(data[start:end])
            header = header or data[start + 8 : end - 4]
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if interlaced:
        raise ValueError("interlaced")
    size = height * (1 + (width * depth * _CHANNELS[colour] + 7) // 8)
    inflate = isal_zlib.decompressobj()
    raw = inflate.decompress(b"".join(packed), size)
    if len(raw) != size or not (inflate.eof or _ends(inflate)):
        raise ValueError("length")  # the limit also keeps a small file from filling the memory
    return (height, width), raw, before, after


def _ends(inflate) -> bool:
    """Whether the stream ends here, its checksum being right."""
    return not inflate.decompress(inflate.unconsumed_tail, 1) and inflate.eof


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of every chunk up to the end mark; ValueError for a wrong checksum or a missing end."""
    at, kind = 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        (checksum,) = struct.unpack_from(">I", data, end - 4)
        if isal_zlib.crc32(memoryview(data)[at + 4 : end - 4]) != checksum:
            raise ValueError("checksum")
        yield kind, at, end
        at = end


def _as_stored(raw: bytes) -> bytes:
    """zlib stream of stored blocks."""
    view, pieces = memoryview(raw), [b"\x78\x01"]
    for start in range(0, len(raw), _BLOCK):
        length = min(_BLOCK, len(raw) - start)
        pieces += [struct.pack("<BHH", start + length == len(raw), length, length ^ 0xFFFF), view[start : start + length]]
    return b"".join([*pieces, struct.pack(">I", isal_zlib.adler32(raw))])

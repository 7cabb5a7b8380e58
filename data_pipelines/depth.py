"""Pictures of more than 8 bits a channel -> 8 bits. Cameras store 10, 12 or 14 bits in 16, and nothing in most files says so."""

from __future__ import annotations

import logging
import re

import numpy as np

DEPTHS = (8, 10, 12, 14, 16)
logger = logging.getLogger(__name__)


def narrow(raw: np.ndarray, declared: int = 0) -> tuple[np.ndarray, int]:
    """uint16 pixels -> (uint8 pixels, bits that are used): the smallest of DEPTHS that holds the brightest value.

    `declared` bits, where a file states them, are used at least, so that a camera's dark pictures are not brightened. 16 bits keep
    their high byte, as decoders do. A dark picture whose values were stretched from 8 bits to 16 (multiples of 256 or 257) uses all
    16.
    """
    bits = next((bits for bits in DEPTHS if bits >= declared and int(raw.max(initial=0)) < 1 << bits), 16)
    if bits < 16 and not all((raw % step).any() for step in (256, 257)):
        bits = 16
    return (raw >> (bits - 8)).astype(np.uint8), bits


def png_bits(data: bytes) -> int:
    """The significant bits that a PNG states (chunk sBIT, before the pixels); 0 if it states none."""
    at = data.find(b"sBIT", 33, max(33, data.find(b"IDAT", 33)))
    length = int.from_bytes(data[at - 4 : at], "big") if at > 0 else 0
    return max(data[at + 4 : at + 4 + length], default=0) if length <= 4 else 0


def by_largest(raw: np.ndarray, largest: int) -> np.ndarray:
    """Pixels whose file states the value of white -> uint8."""
    return ((raw.astype(np.uint32) * 255 + largest // 2) // largest).clip(max=255).astype(np.uint8)


def netpbm_largest(data: bytes) -> int | None:
    """The value of white that the header of a PGM or PPM states; None for bitmaps and damaged headers."""
    words = re.sub(rb"#[^\n]*\n", b" ", data[:1024]).split(maxsplit=4)
    if len(words) < 4 or words[0] not in (b"P2", b"P3", b"P5", b"P6") or not words[3].isdigit():
        return None
    return int(words[3]) if 0 < int(words[3]) < 1 << 16 else None


_warned: set[int] = set()


def warn(bits: int, file: str) -> None:
    """Says, once a process and depth, that pictures are scaled."""
    if bits not in _warned:
        _warned.add(bits)
        logger.warning("%s Others like it are scaled too.", said(bits, file))


def said(bits: int, file: str) -> str:
    """What is said of a picture that does not use its 16 bits."""
    return f"{file} holds {bits} bits in 16; it is scaled to 8 bits by its own range."

"""PNGs inflated by ISA-L: the same pixels, and anything unusual left to the decoder."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_pipelines import png
from data_pipelines.errors import DataError
from data_pipelines.images import decode_image, decode_label

pytest.importorskip("isal")


@pytest.fixture(autouse=True)
def every_size(monkeypatch):
    monkeypatch.setattr(png, "WORTHWHILE", 0)


def encoded(pixels, mode=None, **options):
    file = io.BytesIO()
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(file, "PNG", **options)
    return file.getvalue()


def noise(height, width, *channels):
    return np.random.default_rng(0).integers(0, 256, (height, width, *channels), np.uint8)


def read(data):
    return np.asarray(Image.open(io.BytesIO(data)))


@settings(max_examples=25)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([None, "L", "LA", "RGBA", "P", "1", "I;16"]), st.integers(0, 9))
def test_pixels_are_the_same(height, width, mode, level):
    if mode == "I;16":
        data = encoded(noise(height, width).astype(np.uint16) * 257, compress_level=level)
    else:
        data = encoded(noise(height, width, 3), mode, compress_level=level)
    wrapped = png.stored(data)
    assert wrapped is not data
    np.testing.assert_array_equal(read(wrapped), read(data))
    first, second = (cv2.imdecode(np.frombuffer(d, np.uint8), cv2.IMREAD_UNCHANGED) for d in (wrapped, data))
    np.testing.assert_array_equal(first, second)


def test_other_chunks_and_the_palette_stay():
    options = {"gamma": 0.45}
    picture = Image.fromarray(noise(40, 50, 3)).quantize(7)
    file = io.BytesIO()
    picture.save(file, "PNG", transparency=3, dpi=(72, 72), **options)
    again = Image.open(io.BytesIO(png.stored(file.getvalue())))
    again.load()
    assert again.mode == "P" and again.info["transparency"] is not None and again.getpalette() == picture.getpalette()


def test_files_of_several_data_chunks():
    pixels = noise(200, 300, 3)
    data = encoded(pixels)
    assert data.count(b"IDAT") >= 2
    np.testing.assert_array_equal(read(png.stored(data)), pixels)


def palette(label, **options):
    picture = Image.fromarray(label)
    picture.putpalette(list(range(256)) * 3)
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return file.getvalue()


@settings(max_examples=25)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 9))
def test_palette_indices_are_the_same(height, width, level):
    label = noise(height, width)
    data = palette(label, compress_level=level)
    np.testing.assert_array_equal(png.palette_indices(data), label)
    np.testing.assert_array_equal(decode_label(data, "l.png"), label)


def test_filtered_palettes_and_grey_pictures_are_left_to_the_decoder():
    label = noise(5, 9)
    rows = b"".join(b"\1" + (row - np.r_[np.uint8(0), row[:-1]]).tobytes() for row in label)
    data, chunk = (
        palette(label),
        lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)),
    )
    data = data[: data.index(b"IDAT") - 4] + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert png.palette_indices(data) is None and png.palette_indices(encoded(label)) is None
    np.testing.assert_array_equal(decode_label(data, "l.png"), label)


def broken(kind):
    data = bytearray(encoded(noise(60, 70, 3)))
    at = data.index(b"IDAT")
    if kind == "checksum":
        data[at + 40] ^= 1
    elif kind == "cut":
        data = data[: len(data) // 2]
    elif kind == "interlaced":
        data[28] = 1
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif kind == "taller":  # the header promises more rows than there are
        data[20:24] = struct.pack(">I", 90)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif kind == "longer":  # more data than the header promises
        data[20:24] = struct.pack(">I", 30)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif kind == "stream":  # a damaged stream under a right chunk checksum
        length = struct.unpack_from(">I", data, at - 4)[0]
        data[at + 60] ^= 255
        data[at + 4 + length : at + 8 + length] = struct.pack(">I", zlib.crc32(data[at : at + 4 + length]))
    return bytes(data)


@pytest.mark.parametrize("kind", ["checksum", "cut", "interlaced", "taller", "longer", "stream"])
def test_damaged_and_unusual_files_come_back_as_they_were(kind):
    data = broken(kind)
    assert png.stored(data) is data and png.palette_indices(data) is None


def test_others_are_left_alone(monkeypatch):
    for data in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", encoded(noise(20, 20, 3))[:40]):
        assert png.stored(data) is data
    monkeypatch.setattr(png, "WORTHWHILE", 10**9)
    data = encoded(noise(20, 20, 3))
    assert png.stored(data) is data
    monkeypatch.setattr(png, "WORTHWHILE", 0)
    monkeypatch.setattr(png, "isal_zlib", None)
    assert png.stored(data) is data


def test_the_image_decoder_uses_it_and_keeps_its_errors():
    pixels = noise(60, 70, 3)
    np.testing.assert_array_equal(decode_image(encoded(pixels), "a.png"), pixels)
    with pytest.raises(DataError, match=r"a\.png"):
        decode_image(broken("cut"), "a.png")

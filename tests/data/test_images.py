"""The decoder's stated policy for odd files."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from data_pipelines import images
from data_pipelines.errors import DataError
from tests.data.miniatures import jpeg, palette_png, png, scene, wide_png

RGB, LABEL = scene(1)


def saved(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(RGB, exif=exif)


def test_png_and_jpeg_equal_opencv():
    np.testing.assert_array_equal(images.decode_image(png(RGB), "x"), RGB)
    data = jpeg(RGB)
    reference = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(images.decode_image(data, "x"), reference)


@pytest.mark.parametrize("cut", [0.3, 0.7, 0.98])
@pytest.mark.parametrize("encode", [png, jpeg, lambda rgb: jpeg(rgb, progressive=True)])
def test_truncated_files_raise_with_their_name(encode, cut):
    data = encode(RGB)
    with pytest.raises(DataError, match="dir/a.img is truncated"):
        images.decode_image(data[: int(len(data) * cut)], "dir/a.img")


def test_a_thumbnail_in_the_header_does_not_hide_truncation():
    exif = Image.Exif()
    exif[0x010E] = "x"
    data = jpeg(RGB, exif=exif)
    hidden = data[:2] + b"\xff\xe2\x00\x06ab\xff\xd9" + data[2 : len(data) // 2]  # an end mark inside a header segment
    with pytest.raises(DataError, match="truncated"):
        images.decode_image(hidden, "a.jpg")


@pytest.mark.parametrize(
    "data, words", [(b"", "empty"), (b"hello world, no picture", "cannot be decoded"), (b"\xff\xd8", "truncated")]
)
def test_files_that_are_no_pictures(data, words):
    with pytest.raises(DataError, match=f"a.jpg .*{words}"):
        images.decode_image(data, "a.jpg")


def test_damaged_png_raises():
    data = bytearray(png(RGB))
    data[len(data) // 2] ^= 0x55
    with pytest.raises(DataError, match="a.png"):
        images.decode_image(bytes(data), "a.png")
    with pytest.raises(DataError, match="a.png"):
        images.decode_label(bytes(data), "a.png")


def test_cmyk_raises():
    data = saved(Image.fromarray(RGB).convert("CMYK"), "JPEG")
    with pytest.raises(DataError, match="a.jpg is a CMYK JPEG"):
        images.decode_image(data, "a.jpg")


def test_odd_pixel_formats_become_rgb():
    picture = Image.fromarray(RGB)
    grey = np.asarray(picture.convert("L"))
    np.testing.assert_array_equal(images.decode_image(saved(picture.convert("L")), "x"), np.repeat(grey[..., None], 3, 2))
    bits = np.asarray(picture.convert("1")).astype(np.uint8) * 255
    np.testing.assert_array_equal(images.decode_image(saved(picture.convert("1")), "x"), np.repeat(bits[..., None], 3, 2))
    few = picture.quantize(64)
    np.testing.assert_array_equal(images.decode_image(saved(few), "x"), np.asarray(few.convert("RGB")))
    clear = np.dstack([RGB, np.full(RGB.shape[:2], 9, np.uint8)])
    np.testing.assert_array_equal(images.decode_image(saved(Image.fromarray(clear)), "x"), RGB)
    np.testing.assert_array_equal(images.decode_image(wide_png(RGB.astype(np.uint16) * 256 + 7), "x"), RGB)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_exif_turns_the_photo_as_pillow_does(orientation):
    data = turned(orientation)
    upright = images.decode_image(data, "x")
    from PIL import ImageOps

    assert upright.shape == np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))).shape
    assert images.decode_image(data, "x", exif="ignore").shape == RGB.shape
    assert images.orientation(data) == orientation and images.orientation(jpeg(RGB)) == 1


def test_one_pixel_image_raises():
    with pytest.raises(DataError, match="a.png is only 1x1 pixels"):
        images.decode_image(png(RGB[:1, :1]), "a.png")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_labels_of_any_depth_give_indices(bits):
    label = (LABEL.astype(int) % 2**bits).astype(np.uint8)
    picture = Image.fromarray(label).copy()
    picture.putpalette([k % 256 for k in range(3 * 2**bits)])
    np.testing.assert_array_equal(images.decode_label(saved(picture, bits=bits), "x"), label)


def grey_png(values: np.ndarray, bits: int) -> bytes:
    """Grey PNG of 1, 2 or 4 bits, which Pillow cannot write; rows packed by hand."""
    import struct
    import zlib

    height, width = values.shape
    planes = ((values[..., None] >> np.arange(bits)[::-1]) & 1).reshape(height, -1).astype(np.uint8)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in planes)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_labels_of_few_bits_are_not_stretched(bits):
    label = (LABEL % 2**bits).astype(np.uint8)
    np.testing.assert_array_equal(images.decode_label(grey_png(label, bits), "x"), label)


def test_sixteen_bit_and_three_channel_labels():
    np.testing.assert_array_equal(images.decode_label(wide_png(LABEL.astype(np.uint16) + 300), "x"), LABEL.astype(int) + 300)
    np.testing.assert_array_equal(images.decode_label(png(np.repeat(LABEL[..., None], 3, 2)), "x"), LABEL)
    np.testing.assert_array_equal(
        images.decode_label(wide_png(np.repeat(LABEL[..., None], 3, 2).astype(np.uint16)), "x"), LABEL
    )


def test_colour_jpeg_and_float_labels_are_refused():
    with pytest.raises(DataError, match="a.png is a colour picture where class ids are expected"):
        images.decode_label(png(RGB), "a.png")
    with pytest.raises(DataError, match="a.png is a JPEG"):
        images.decode_label(jpeg(RGB), "a.png")
    with pytest.raises(DataError, match="whole numbers"):
        images.decode_label(saved(Image.fromarray(LABEL.astype(np.float32)), "TIFF"), "a.tif")


def test_synthia_takes_red_of_sixteen_bits():
    wide = np.zeros((*LABEL.shape, 3), np.uint16)
    wide[..., 0], wide[..., 1], wide[..., 2] = 7, 900, 3
    np.testing.assert_array_equal(images.decode_synthia(wide_png(wide), "x"), np.full(LABEL.shape, 7))
    with pytest.raises(DataError, match="16-bit three-channel"):
        images.decode_synthia(palette_png(LABEL % 19), "x")


@pytest.mark.parametrize("kind", ["grey", "palette", "palette of 2 bits", "16 bits", "synthia"])
def test_a_flipped_bit_never_gives_another_label(kind):
    label = (LABEL % 4).astype(np.uint8)
    few = Image.fromarray(label).copy()
    few.putpalette(list(range(12)))
    wide = np.zeros((*label.shape, 3), np.uint16)
    wide[..., 0] = label
    data, decode = {
        "grey": (png(label), images.decode_label),
        "palette": (palette_png(label), images.decode_label),
        "palette of 2 bits": (saved(few, bits=2), images.decode_label),
        "16 bits": (wide_png(label.astype(np.uint16)), images.decode_label),
        "synthia": (wide_png(wide), images.decode_synthia),
    }[kind]
    rng = np.random.default_rng(0)
    for _ in range(60):
        spoilt = bytearray(data)
        spoilt[rng.integers(len(data))] ^= 1 << rng.integers(8)
        try:
            np.testing.assert_array_equal(decode(bytes(spoilt), "x"), label)
        except DataError:
            pass

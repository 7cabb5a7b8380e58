"""The decoder's stated policy for odd files."""

import io
import zlib

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


def made_tiff(values: np.ndarray, bits: int, *, numbers: int = 1, photometric: int | None = None) -> bytes:
    """A TIFF written by hand, of any kind of samples; 10, 12 and 14 bits are packed."""
    import struct

    height, width, bands = values.shape if values.ndim == 3 else (*values.shape, 1)
    if bits in (10, 12, 14):
        planes = (values.reshape(height, -1, 1).astype(np.int64) >> np.arange(bits)[::-1]) & 1
        body = b"".join(np.packbits(row).tobytes() for row in planes.reshape(height, -1).astype(np.uint8))
    else:
        body = values.tobytes()
    photometric = (1 if bands < 3 else 2) if photometric is None else photometric
    tags = [(256, "I", [width]), (257, "I", [height]), (258, "H", [bits] * bands), (259, "H", [1]), (262, "H", [photometric]),
            (273, "I", [0]), (277, "H", [bands]), (278, "I", [height]), (279, "I", [len(body)]), (339, "H", [numbers] * bands)]  # fmt: skip
    more, entries, after = b"", b"", 8 + 2 + 12 * len(tags) + 4
    packed = [(tag, kind, v, struct.pack(f"<{len(v)}{kind}", *v)) for tag, kind, v in tags]
    start = after + sum(len(data) for *_, data in packed if len(data) > 4)
    for tag, kind, v, data in packed:
        if tag == 273:
            data = struct.pack("<I", start)
        if len(data) > 4:
            more, data = more + data, struct.pack("<I", after + len(more))
        entries += struct.pack("<HHI", tag, {"H": 3, "I": 4}[kind], len(v)) + data.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + more + body


WIDE = {
    "png": lambda values: cv2.imencode(".png", values[..., ::-1])[1].tobytes(),
    "tiff": lambda values: cv2.imencode(".tif", values[..., ::-1])[1].tobytes(),
    "plain tiff": lambda values: made_tiff(values, 16),
    "ppm": lambda values: b"P6 %d %d 65535\n" % values.shape[1::-1] + values.astype(">u2").tobytes(),
}


@pytest.mark.parametrize("kind", ["png", "tiff", "plain tiff"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_bits_in_sixteen_are_scaled_by_the_range_that_is_used(kind, bits, caplog):
    from data_pipelines import depth

    depth._warned.clear()
    bright = RGB.copy()
    bright[0, 0] = 255
    data = WIDE[kind](bright.astype(np.uint16) << (bits - 8))
    np.testing.assert_array_equal(images.decode_image(data, "a.img"), bright)
    images.decode_image(data, "b.img")
    warned = [record.getMessage() for record in caplog.records]
    assert warned == ([] if bits == 16 else [f"a.img holds {bits} bits in 16; it is scaled to 8 bits by its own range. "
                                             "Others like it are scaled too."])  # fmt: skip
    assert images.used_bits(data, "a.img") == (None if bits == 16 else bits)


def test_a_dark_picture_of_all_sixteen_bits_stays_dark():
    for step in (256, 257):
        dark = RGB // 16
        np.testing.assert_array_equal(images.decode_image(WIDE["png"](dark.astype(np.uint16) * step), "x"), dark)
    np.testing.assert_array_equal(images.decode_image(WIDE["ppm"](RGB.astype(np.uint16) // 16 * 257), "x"), RGB // 16)


@pytest.mark.parametrize("largest", [100, 255, 1023, 4095, 65535])
def test_netpbm_states_what_is_white(largest):
    kind = ">u2" if largest > 255 else np.uint8
    stored = (RGB.astype(np.int64) * largest // 255).astype(kind)
    data = b"P6\n# made by hand\n%d %d\n%d\n" % (*RGB.shape[1::-1], largest) + stored.tobytes()
    assert np.abs(images.decode_image(data, "x").astype(int) - RGB).max() <= 255 // largest + 1
    label = (LABEL % 19).astype(np.uint8)
    data = b"P5 %d %d %d\n" % (*LABEL.shape[1::-1], largest) + label.astype(kind).tobytes()
    np.testing.assert_array_equal(images.decode_label(data, "x"), label)  # never stretched


@pytest.mark.parametrize(
    "data, words",
    [
        (made_tiff((RGB / 255).astype(np.float32), 32, numbers=3), "holds 32-bit floating-point values"),
        (made_tiff((RGB[..., 0] / 255).astype(np.float32), 32, numbers=3), "holds 32-bit floating-point values"),
        (made_tiff(RGB.astype(np.uint16) << 4, 12), "holds 12-bit samples, which are not read"),
        (made_tiff(RGB[..., 0].astype(np.uint32), 32), "holds 32-bit samples"),
        (made_tiff(RGB[..., 0].astype(np.int16), 16, numbers=2), "holds signed numbers"),
        (made_tiff(np.dstack([RGB, RGB[..., :2]]), 8), "has 5 bands; choose three"),
        (saved(Image.fromarray(RGB).convert("LAB"), "TIFF"), r"a TIFF in CIE L\*a\*b\*"),
        (saved(Image.fromarray(RGB).convert("CMYK"), "TIFF"), "a CMYK TIFF"),
    ],
)
def test_tiffs_that_are_no_rgb_are_refused_with_the_true_reason(data, words):
    with pytest.raises(DataError, match=f"a.tif .*{words}"):
        images.decode_image(data, "a.tif")


def test_tiffs_that_are_rgb_are_read():
    np.testing.assert_array_equal(images.decode_image(made_tiff(RGB, 8), "x"), RGB)
    np.testing.assert_array_equal(images.decode_image(made_tiff(np.dstack([RGB, RGB[..., 0]]), 8), "x"), RGB)  # near infrared
    big = cv2.imencode(".tif", RGB[..., ::-1])[1].tobytes()
    for cut in range(8, 200, 7):  # a damaged header is said, never a traceback
        try:
            images.decode_image(big[:cut] + b"\xff" * 8 + big[cut + 8 :], "a.tif")
        except DataError as error:
            assert "a.tif" in str(error)


def with_alpha(colours, alpha, mode: str, kind: str = "PNG") -> bytes:
    return saved(Image.fromarray(np.dstack([colours, alpha]), mode), kind)


@pytest.mark.parametrize("decode", [images.decode_label, images.decode_colours])
@pytest.mark.parametrize("mode, kind", [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "TIFF")])
def test_labels_in_the_alpha_channel_alone_are_refused(decode, mode, kind):
    colours = np.full((*LABEL.shape, 3 if mode == "RGBA" else 1), 7, np.uint8)
    with pytest.raises(DataError, match="a.png has its content in the alpha channel alone"):
        decode(with_alpha(colours, LABEL, mode, kind), "a.png")
    plain = decode(with_alpha(colours, np.full_like(LABEL, 200), mode, kind), "a.png")
    assert (plain == 7).all()
    both = np.repeat(LABEL[..., None] % 3, colours.shape[2], 2)
    seen = decode(with_alpha(both, LABEL, mode, kind), "a.png")
    np.testing.assert_array_equal(seen[..., 0] if seen.ndim == 3 else seen, LABEL % 3)


@pytest.mark.parametrize("decode", [images.decode_label, images.decode_colours])
def test_labels_in_formats_that_change_them_are_refused(decode):
    grey = Image.fromarray(LABEL)
    for data, words in (
        (saved(grey, "TIFF", compression="jpeg"), "a TIFF compressed as JPEG"),
        (saved(Image.fromarray(RGB), "JPEG2000", irreversible=True), "a lossy JPEG 2000"),
        (saved(Image.fromarray(RGB).convert("CMYK"), "TIFF"), "stored as CMYK"),
        (saved(Image.fromarray(RGB).convert("LAB"), "TIFF"), "stored as LAB"),
        (made_tiff(LABEL, 8, photometric=0), "stores white as 0"),
    ):
        with pytest.raises(DataError, match=f"a.img .*{words}"):
            decode(data, "a.img")
    for data in (saved(grey, "TIFF"), saved(grey, "TIFF", compression="tiff_lzw"), saved(grey, "JPEG2000")):
        seen = decode(data, "a.img")
        np.testing.assert_array_equal(seen[..., 0] if seen.ndim == 3 else seen, LABEL)


def test_sixteen_bit_greys_as_colours():
    np.testing.assert_array_equal(images.decode_colours(wide_png(LABEL.astype(np.uint16)), "x")[..., 1], LABEL)
    with pytest.raises(DataError, match="a.png holds values up to 1000, which are not colours"):
        images.decode_colours(wide_png(np.full((9, 9), 1000, np.uint16)), "a.png")


def test_bits_that_a_file_states_keep_dark_pictures_dark():
    dark = RGB // 16
    data = WIDE["png"](dark.astype(np.uint16) << 4)  # a dark picture of 12 bits: none of its values needs more than 8
    bits = b"\0\0\0\3sBIT" + bytes([12, 12, 12])
    stated = data[:33] + bits + zlib.crc32(bits[4:]).to_bytes(4, "big") + data[33:]
    np.testing.assert_array_equal(images.decode_image(stated, "x"), dark)
    assert images.used_bits(stated, "x") == 12 and images.used_bits(data, "x") == 8
    grey = Image.fromarray(dark[..., 0].astype(np.uint16) << 4)
    stated = saved(grey, "TIFF", tiffinfo={281: 4095})
    np.testing.assert_array_equal(images.decode_image(stated, "x")[..., 0], dark[..., 0])


def test_jpegs_of_twelve_bits_are_named():
    data = jpeg(RGB)
    at = data.index(b"\xff\xc0")
    with pytest.raises(DataError, match="a.jpg is a 12-bit JPEG"):
        images.decode_image(data[: at + 4] + b"\x0c" + data[at + 5 :], "a.jpg")


def test_turned_tiffs_are_turned_as_opencv_turns_them():
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        data = saved(Image.fromarray(RGB), "TIFF", exif=exif)
        for how, flag in (("apply", 0), ("ignore", cv2.IMREAD_IGNORE_ORIENTATION)):
            reference = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | flag)
            np.testing.assert_array_equal(images.decode_image(data, "x", exif=how), reference)

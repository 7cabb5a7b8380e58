"""The door for pictures: what is told by full signatures, what is refused by name, and that no picture starts a program."""

import io
import os
import random
import re
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageOps

from data_pipelines import images, pictures
from data_pipelines.errors import DataError
from rein_jax.evaluation.predictions import read_prediction
from rein_jax.predict import pixels
from rein_jax.predict.video import Reader
from rein_jax.reporting.page import shots
from rein_jax.serve import app
from tests.data.miniatures import jpeg, palette_png, png, scene

RGB, LABEL = scene(1)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 48\n%%EndComments\n0 setgray 0 0 96 48 rectfill showpage\n%%EOF\n"
HEADS = {
    "AVIF": b"\0\0\0\x1cftypavif", "BLP": b"BLP2\1\0\0\0", "BMP": b"BM" + b"\0" * 12 + b"\x28\0\0\0", "BUFR": b"BUFR", "CUR": b"\0\0\2\0",
    "DCX": b"\xb1\x68\xde\x3a", "DDS": b"DDS |\0\0\0", "DIB": b"\x28\0\0\0", "EPS": EPS, "FITS": b"SIMPLE  =                    T",
    "FLI": b"\0\0\0\0\x11\xaf", "FTEX": b"FTEX", "GBR": b"\0\0\0\x1c\0\0\0\2", "GIF": b"GIF89a", "GRIB": b"GRIB\0\0\0\1",
    "HDF5": b"\x89HDF\r\n\x1a\n", "ICNS": b"icns", "ICO": b"\0\0\1\0", "IM": b"Image type: L\r\n", "IMT": b"\nwidth 9\n",
    "IPTC": b"\x1c\3<", "JPEG": b"\xff\xd8\xff\xe0", "JPEG2000": b"\0\0\0\x0cjP  \r\n\x87\n", "MCIDAS": b"\0\0\0\0\0\0\0\4",
    "MPEG": b"\0\0\1\xb3", "MSP": b"LinS", "PCD": b"\0" * 2048 + b"PCD_", "PCX": b"\n\5\1\x08", "PIXAR": b"\200\350\0\0",
    "PNG": b"\x89PNG\r\n\x1a\n", "PPM": b"P6\n", "PSD": b"8BPS\0\1", "QOI": b"qoif", "SGI": b"\1\xda\0\1", "SPIDER": b"\0\0\x80?",
    "SUN": b"\x59\xa6\x6a\x95", "TGA": b"\0\0\2\0", "TIFF": b"II*\0", "WEBP": b"RIFF\0\0\0\0WEBPVP8 ", "WMF": b"\xd7\xcd\xc6\x9a\0\0",
    "XBM": b"#define w_width 8\n#define w_height 8\n", "XPM": b"/* XPM */\n", "XVTHUMB": b"P7 332",
}  # fmt: skip
DOORS = {
    "image": lambda data: images.decode_image(data, "x"),
    "label": lambda data: images.decode_label(data, "x"),
    "colours": lambda data: images.decode_colours(data, "x"),
    "synthia": lambda data: images.decode_synthia(data, "x"),
    "mode": lambda data: images.label_mode(data, "x"),
    "palette": lambda data: images.label_palette(data, "x"),
    "orientation": images.orientation,
    "predict": lambda data: pixels.decode(data, "x"),
    "serve": lambda data: app.decode(data, app.Limits()),
}


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def programs(monkeypatch):
    """Programs that were started; starting one fails, but what catches the failure does not hide it."""
    started = []

    def start(*arguments, **options):
        started.append(arguments)
        raise OSError("no program may be started")

    monkeypatch.setattr(subprocess.Popen, "__init__", start)
    for name in ("system", "popen", "fork", "posix_spawn", "posix_spawnp", "execv", "execve"):
        monkeypatch.setattr(os, name, start)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", "gs")  # as where Ghostscript is installed
    return started


def through(data: bytes) -> int:
    """Sends bytes through every door and counts those that refuse them."""
    refused = 0
    for door in DOORS.values():
        try:
            door(data)
        except (DataError, app.Refused):
            refused += 1
    return refused


def test_pillow_itself_would_start_ghostscript(programs):
    with pytest.raises(OSError, match="no program"), Image.open(io.BytesIO(EPS)) as picture:
        picture.load()
    assert programs[0][1][0] == "gs"


def test_no_head_of_a_format_that_pillow_knows_starts_a_program(programs):
    Image.init()
    assert set(Image.OPEN) <= set(HEADS), "give the new format of this Pillow a head"
    random.seed(5)
    for head in HEADS.values():
        for size in (0, 1, 30, 3000):
            through(head + random.randbytes(size))
    assert not programs


def test_whole_files_of_every_format_that_pillow_writes_start_no_program(programs):
    Image.init()
    for kind in sorted(set(Image.SAVE) & set(Image.OPEN)):
        for mode in ("RGB", "L", "P"):
            try:
                data = saved(Image.fromarray(RGB).convert(mode), kind)
            except (OSError, ValueError, KeyError, DeprecationWarning):  # not in this mode, or the format cannot be written here
                continue
            refused = through(data)
            assert refused >= len(DOORS) - 1 or kind in pictures.FORMATS or kind in ("DIB", "MPO"), kind
    assert not programs


def test_flipped_bytes_in_whole_files_are_pictures_or_one_sentence(programs):
    random.seed(6)
    for kind in pictures.FORMATS:
        whole = saved(Image.fromarray(RGB).resize((24, 16)), kind)
        for _ in range(60):
            data = bytearray(whole)
            for _ in range(random.choice((1, 8))):
                data[random.randrange(min(len(data), random.choice((64, 10**6))))] = random.randrange(256)
            through(bytes(data[: random.choice((len(data), len(data) // 2))]))
    assert not programs


def test_predictions_and_report_pictures_come_through_the_door(programs, tmp_path):
    (tmp_path / "prediction.png").write_bytes(EPS)
    with pytest.raises(ValueError, match="prediction.png is an EPS or PostScript drawing"):
        read_prediction(tmp_path / "prediction.png")
    with pytest.raises(ValueError, match="truth.png is an EPS or PostScript drawing"):
        shots._labels(EPS, "truth.png")
    assert not programs


@pytest.mark.parametrize(
    "data, words",
    [
        (EPS, "an EPS or PostScript drawing"),
        (b"\xc5\xd0\xd3\xc6\x1e\0\0\0", "an EPS or PostScript drawing"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"8BPS\0\1\0\0", "a Photoshop file"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC photo; .* save it as JPEG or PNG"),
        (HEADS["AVIF"], "an AVIF picture"),
        (b'<?xml version="1.0"?>\n<!-- made -->\n<svg xmlns="x">', "an SVG drawing"),
        (b"<!DOCTYPE html>\n<html>", "a web page; .* the download failed"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied', "an XML text; .* the download failed"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a pointer of Git LFS .* run `git lfs pull`"),
        (b"PK\x03\x04\x14\0", "a .zip or Office file"),
        (b"\x1f\x8b\x08\0", "packed by gzip"),
        (b"\x93NUMPY\1\0", "a NumPy array"),
        (b"\0\0\1\0\1\0", "an icon"),
        (b"\0" * 128 + b"DICM", "a DICOM picture"),
    ],
)
@pytest.mark.parametrize("door", ["image", "label", "predict"])
def test_what_people_have_in_place_of_pictures_is_named(door, data, words):
    with pytest.raises(DataError, match=f"x is {words}"):
        DOORS[door](data)


@pytest.mark.parametrize(
    "data", [b"BM, said the owl, this is a text", b"RIFF\0\0\0\0AVI LIST", b"P6x", b"II*x", b"GIF90a", b"\xff\xd8x" * 9], ids=repr
)
def test_half_a_signature_is_no_picture(data):
    assert pictures.kind(data) is None
    with pytest.raises(DataError, match="x cannot be decoded"):
        images.decode_image(data, "x")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP", "TIFF", "GIF", "JPEG2000", "PPM"])
def test_every_promised_format_gives_its_pixels(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = Image.fromarray(RGB).quantize(64) if kind == "GIF" else Image.fromarray(RGB)
    data = saved(picture, kind, **options)
    assert pictures.kind(data) == kind
    np.testing.assert_array_equal(images.decode_image(data, "x"), np.asarray(picture.convert("RGB")))
    np.testing.assert_array_equal(pixels.decode(data, "x"), np.asarray(picture.convert("RGB")))


def test_a_phone_photo_of_several_pictures_is_a_jpeg():
    two = saved(Image.fromarray(RGB), "MPO", save_all=True, append_images=[Image.fromarray(255 - RGB)])
    assert images.decode_image(two, "x").shape == RGB.shape and images.orientation(two) == 1


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_the_first_of_several_pages_or_frames_is_read(kind):
    label = (LABEL % 4).astype(np.uint8)
    first, second = (Image.fromarray(values).copy() for values in (label, 3 - label))
    if kind == "GIF":
        for page in (first, second):
            page.putpalette(list(range(12)))
    if kind == "WEBP":
        first, second = first.convert("RGB"), second.convert("RGB")
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(first, kind, save_all=True, append_images=[second], **options)
    np.testing.assert_array_equal(images.decode_label(data, "x"), label)


def test_gif_masks_give_their_indices():
    label = (LABEL % 4).astype(np.uint8)
    picture = Image.fromarray(label).copy()
    picture.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200, 9, 9, 9])
    np.testing.assert_array_equal(images.decode_label(saved(picture, "GIF", optimize=False), "x"), label)


@pytest.mark.parametrize(
    "data",
    [jpeg(RGB), saved(Image.fromarray(RGB), "WEBP"), saved(Image.fromarray(RGB), "WEBP", exif=Image.Exif().tobytes() + b"\0")],
    ids=["jpeg", "webp", "webp with exif"],
)
@pytest.mark.parametrize("door", ["label", "colours"])
def test_labels_in_lossy_formats_are_refused(door, data):
    with pytest.raises(DataError, match="x is a (JPEG|lossy WebP), which changes label (values|colours); save labels as PNG"):
        DOORS[door](data)


def header_only(kind: str, width: int, height: int) -> bytes:
    """A small file whose header states this size."""
    data = bytearray(saved(Image.fromarray(RGB), kind))
    if kind == "PNG":
        data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    elif kind == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    elif kind == "BMP":
        data[18:26] = width.to_bytes(4, "little") + height.to_bytes(4, "little")
    else:
        data[:] = data.replace(b"96 48", b"%d %d" % (width, height))
    return bytes(data)


@pytest.mark.parametrize(
    "door, kind",
    [(door, kind) for door in ("image", "label", "colours", "mode") for kind in ("PNG", "BMP", "PPM")]
    + [("image", "JPEG"), ("mode", "JPEG")],
)
def test_more_pixels_than_any_camera_takes_are_refused_before_decoding(door, kind):
    with pytest.raises(pictures.TooLarge, match="x has 40000x40000 pixels|x states more pixels"):
        DOORS[door](header_only(kind, 40_000, 40_000))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_marks_that_turn_a_picture_are_obeyed_in_every_format(kind, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    data = saved(Image.fromarray(RGB), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    decoded = images.decode_image(data, "x")
    assert decoded.shape == upright.shape and np.abs(decoded.astype(int) - upright).max() <= (3 if kind == "JPEG" else 0)
    assert images.orientation(data) == turn
    if kind != "TIFF":  # whose mark is a part of the format itself, obeyed in images and masks alike
        assert images.decode_image(data, "x", exif="ignore").shape == RGB.shape


@pytest.mark.parametrize("suffix, codec", [(".mp4", "mp4v"), (".mov", "mp4v"), (".avi", "MJPG"), (".mkv", "mp4v"), (".mpg", "mpg1")])
def test_videos_are_told_by_their_containers(suffix, codec, tmp_path):
    path = tmp_path / f"a{suffix}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 25, (96, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV does not write it")
    for _ in range(3):
        writer.write(RGB)
    writer.release()
    assert pictures.is_video(path.read_bytes()[:190])
    path.rename(tmp_path / "other.mp4")
    assert len(list(Reader(tmp_path / "other.mp4", 1))) >= 2


@pytest.mark.parametrize(
    "text",
    ["ffconcat version 1.0\nfile real.avi\n", "#EXTM3U\n#EXTINF:5,\nreal.avi\n", '<?xml version="1.0"?><MPD/>', "v=0\no=- 0 0 IN\n", ""],
)
def test_lists_of_other_files_are_no_videos(text, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "real.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (96, 48))
    writer.write(RGB)
    writer.release()
    (tmp_path / "a.mp4").write_text(text)
    with pytest.raises(DataError, match="a.mp4 is not an MP4, MOV, AVI, MKV, WebM or MPEG file, whatever its name says"):
        Reader(tmp_path / "a.mp4", 1)


def test_the_name_does_not_count():
    np.testing.assert_array_equal(images.decode_image(png(RGB), "really.jpg"), RGB)
    np.testing.assert_array_equal(images.decode_label(palette_png(LABEL % 19), "really.tif"), LABEL % 19)


def test_pictures_are_opened_at_the_door_alone():
    root = Path(images.__file__).parents[1]
    for path in (file for part in ("data_pipelines", "rein_jax") for file in (root / part).rglob("*.py")):
        found = re.findall(r"\bImage\.open\(|\bimread\(", path.read_text(encoding="utf-8"))
        assert not found or path.name == "pictures.py", f"{path}: use data_pipelines.pictures.open_picture"

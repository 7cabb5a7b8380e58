"""Test protocols: sizes of the original's test pipelines, and labels left at the size of their files."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_pipelines.errors import DataError
from data_pipelines.protocols import PROTOCOLS, halve, protocol


class Named:
    def __init__(self, name, halved=False):
        self.name, self.found = name, "Mapillary pictures of half size" if halved else "Mapillary folders"


def size_of(name, dataset, height, width, halved=False):
    image, label = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
    image, label = protocol(name).apply(image, label, Named(dataset, halved))
    return image.shape[:2], label.shape


@pytest.mark.parametrize(
    ("name", "dataset", "file", "image"),
    [
        ("official-512", "cityscapes", (1024, 2048), (512, 1024)),
        ("official-512", "bdd100k", (720, 1280), (720, 1280)),
        ("official-512", "acdc", (1080, 1920), (540, 960)),
        ("official-512", "gtav", (1052, 1914), (704, 1280)),  # 1914 / 1280 decides: 1052 * 1280 / 1914 = 703.5, rounded up
        ("official-512", "camvid", (720, 960), (512, 683)),
        ("official-1024", "cityscapes", (1024, 2048), (1024, 2048)),
        ("official-1024", "acdc", (1080, 1920), (1080, 1920)),
        ("full", "mapillary", (301, 403), (301, 403)),
        ("fit-64x32", "folder", (90, 60), (48, 32)),
    ],
)
def test_sizes(name, dataset, file, image):
    assert size_of(name, dataset, *file) == (image, file)


def test_mapillary_is_halved_once_as_the_original_does():
    assert size_of("official-512", "mapillary", 1201, 1600) == ((512, 683), (600, 800))
    assert size_of("official-512", "mapillary", 600, 800, halved=True) == ((512, 683), (600, 800))
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    label = rng.integers(0, 19, (48, 64), np.uint8)
    half, small = halve(image, label)
    file = io.BytesIO()
    Image.fromarray(image).resize((32, 24), Image.Resampling.BICUBIC).save(file, "JPEG", quality=75)
    again = np.asarray(Image.open(file))
    assert np.abs(half.astype(int) - again).max() <= 3  # another JPEG decoder
    np.testing.assert_array_equal(small, np.asarray(Image.fromarray(label).resize((32, 24), Image.Resampling.NEAREST)))


@settings(max_examples=50)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([(64, 32), (100, 100), (32, 96)]))
def test_an_image_fits_inside_and_touches_the_box(height, width, box):
    (tall, wide), label = size_of(f"fit-{box[0]}x{box[1]}", "folder", height, width)
    long, short = max(box), min(box)
    assert label == (height, width)
    assert max(tall, wide) <= long and min(tall, wide) <= short and min(tall, wide) >= 1
    assert max(tall, wide) == long or min(tall, wide) == short


def test_names_and_descriptions():
    assert protocol("full") is PROTOCOLS["full"] and protocol(PROTOCOLS["full"]) is PROTOCOLS["full"]
    assert protocol("official-512").describe("cityscapes") == "official-512 (inside 1024x512)"
    assert protocol("official-512").describe("mapillary") == "official-512 (half-size files, inside 1024x512)"
    assert protocol("full").describe("acdc") == "full (size of the file)"
    for name in ("official", "fit-0x4", "fit-12", ""):
        with pytest.raises(DataError, match="Unknown test protocol"):
            protocol(name)

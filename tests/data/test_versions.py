"""Files corrected in place: nothing that was computed from the old ones is used again, and a copy elsewhere is still the same data."""

import os
import shutil

import numpy as np
import pytest

from data_pipelines import open_source
from data_pipelines.cache import Cached
from data_pipelines.corruptions import Corrupted
from data_pipelines.prepare import prepare
from data_pipelines.sample import Sample
from data_pipelines.source import version
from tests.data.miniatures import build, png

RIGHT, WRONG = np.full((48, 96), 2, np.uint8), np.full((48, 96), 1, np.uint8)


def rewrite(path, data: bytes) -> None:
    """Other bytes of the same number in the same file, a second later by its clock."""
    before = path.stat()
    assert len(data) == before.st_size
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))


@pytest.fixture
def folder(tmp_path):
    root = build("folder", tmp_path / "mine").root
    (root / "masks/photo_3.png").write_bytes(png(WRONG))
    return root


def whole(root, **options):
    return open_source("folder", split="all", source=root, **options)


def test_a_mask_corrected_in_place_is_another_version_of_the_same_data(folder, tmp_path):
    views = (lambda source: source, lambda source: Sample(source, 3), lambda source: Corrupted(source, "fog", 2))
    before, prints = [version(view(whole(folder))) for view in views], [view(whole(folder)).fingerprint() for view in views]
    assert before == [version(view(whole(folder))) for view in views] and len(set(before)) == 3
    copied = shutil.copytree(folder, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    assert [view(whole(copied)).fingerprint() for view in views] == prints  # a run can go on with a copy
    rewrite(folder / "masks/photo_3.png", png(RIGHT))
    assert [view(whole(folder)).fingerprint() for view in views] == prints
    assert not set(before) & {version(view(whole(folder))) for view in views}


def test_an_image_replaced_by_one_of_the_same_size_is_another_version(folder):
    before = version(whole(folder))
    image = folder / "images/photo_3.jpg"
    rewrite(image, image.read_bytes()[:-3] + b"\0\xff\xd9")
    assert version(whole(folder)) != before


def test_a_new_training_with_a_cache_learns_the_corrected_mask(folder, tmp_path, caplog):
    caplog.set_level("INFO", "data_pipelines.cache")
    at = [element["name"] for element in whole(folder)].index("images/photo_3.jpg")
    assert (Cached(whole(folder), tmp_path / "cache", threads=1)[at]["label"] == 1).all()
    rewrite(folder / "masks/photo_3.png", png(RIGHT))
    cached = Cached(whole(folder), tmp_path / "cache", threads=1)
    assert (cached[at]["label"] == 2).all() and version(cached) == version(whole(folder))
    assert "used again" not in caplog.text
    Cached(whole(folder), tmp_path / "cache", threads=1)
    assert "The images of folder were decoded before" in caplog.text


def test_preparing_again_takes_the_corrected_mask(folder, tmp_path):
    out = tmp_path / "records"
    prepare("folder", folder, out, splits=("all",), say=lambda _: None)
    said = []
    prepare("folder", folder, out, splits=("all",), say=said.append)
    assert "1 already there" in said[0]
    rewrite(folder / "masks/photo_3.png", png(RIGHT))
    prepare("folder", folder, out, splits=("all",), say=lambda _: None)
    labels = {element["name"]: element["label"] for element in open_source("folder", split="all", source=out)}
    assert (labels["images/photo_3.jpg"] == 2).all()


def test_inside_a_zip_the_checksum_tells(folder, tmp_path):
    def packed() -> str:
        return shutil.make_archive(str(tmp_path / "mine"), "zip", folder)

    first = version(whole(packed()))
    os.utime(folder / "masks/photo_3.png", (0, 10**9))
    assert version(whole(packed())) == first
    (folder / "masks/photo_3.png").write_bytes(png(RIGHT))
    assert version(whole(packed())) != first

"""Decoded caches: the same pixels, written once, whole or not at all."""

import pickle

import numpy as np
import pytest

from data_pipelines.cache import INDEX, PIXELS, Cached
from data_pipelines.errors import DataError
from data_pipelines.mixture import train_batches
from data_pipelines.transforms import TrainTransform


class Counting:
    """Images of several sizes; counts how often one is decoded."""

    name, domain, classes, has_labels = "few", "clear", ("a", "b"), True

    def __init__(self, length=5, broken=None):
        self.length, self.broken, self.reads = length, broken, 0

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        self.reads += 1
        if i == self.broken:
            raise DataError("few/3.png is truncated: copy it again.")
        rng = np.random.default_rng(i)
        height, width = 16 + i, 24 - i
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        return {"image": image, "label": rng.integers(0, 2, (height, width), np.uint8), "name": f"few/{i}"}

    def fingerprint(self):
        return f"{self.length:064d}"


def assert_same(first, second):
    for key in ("image", "label", "name"):
        np.testing.assert_array_equal(first[key], second[key])


def test_a_cache_gives_the_pixels_of_its_source_and_is_written_once(tmp_path):
    source = Counting()
    cached = Cached(source, tmp_path, threads=2)
    assert (cached.name, cached.domain, len(cached), cached.fingerprint()) == ("few", "clear", 5, source.fingerprint())
    for i in (0, 3, 4, -1):
        assert_same(cached[i], source[range(5)[i]])
    again, reads = Cached(source, tmp_path), source.reads
    assert source.reads == reads and len(list(tmp_path.iterdir())) == 1
    assert_same(pickle.loads(pickle.dumps(again))[2], source[2])
    with pytest.raises(IndexError):
        cached[5]


def test_training_from_a_cache_gives_the_same_batches(tmp_path):
    source, transform = Counting(), TrainTransform(16)
    with train_batches([source], None, transform, batch=3, threads=1) as plain:
        with train_batches([Cached(source, tmp_path)], None, transform, batch=3, threads=1) as cached:
            for _ in range(3):
                first, second = next(plain), next(cached)
                for key in first:
                    np.testing.assert_array_equal(first[key], second[key])


def test_a_failed_cache_leaves_nothing_behind(tmp_path):
    with pytest.raises(DataError, match=r"few/3\.png"):
        Cached(Counting(broken=3), tmp_path, threads=1)
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match="no images"):
        Cached(Counting(0), tmp_path)


def test_a_damaged_cache_is_named(tmp_path):
    cached = Cached(Counting(), tmp_path, threads=1)
    with open(cached.where / PIXELS, "ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match="remove .*few-"):
        Cached(Counting(), tmp_path)
    (cached.where / INDEX).unlink()
    with pytest.raises(DataError, match="in the way"):
        Cached(Counting(), tmp_path, threads=1)


def test_too_little_space_is_said_before_decoding(tmp_path, monkeypatch):
    from data_pipelines import cache

    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: type("Disk", (), {"free": 1000}))
    with pytest.raises(DataError, match="GiB free"):
        Cached(Counting(), tmp_path)

"""Loaders on machines that refuse: one sentence with what to set, and a file server that fails for a moment costs nothing."""

import errno
import os
import signal

import numpy as np
import pytest

from data_pipelines import mixture
from data_pipelines.errors import DataError
from data_pipelines.labels import CITYSCAPES
from data_pipelines.mixture import Batches, train_batches


class Source:
    """Forty pictures; `at(i)` is called before each is given."""

    name = domain = "town"
    classes = CITYSCAPES

    def __init__(self, at=lambda i: None):
        self.at = at

    def __len__(self):
        return 40

    def __getitem__(self, i):
        self.at(i)
        return {"image": np.zeros((8, 8, 3), np.uint8), "label": np.zeros((8, 8), np.uint8), "name": f"{i}.png"}


class Same:
    """No change but the size."""

    def __call__(self, image, label, rng):
        return {"image": image, "label": label, "size": np.array(image.shape[:2], np.int32)}


class Failing:
    """What Grain's iterator does when it fails."""

    def __init__(self, error):
        self.error = error

    def __next__(self):
        raise self.error

    def close(self):
        pass


@pytest.mark.parametrize("code, words", [
    (-9, r"was killed, most often because memory ran out: use fewer data\.workers .* data\.workers=0"),
    (-7, r"no room in shared memory; .*/dev/shm.*--shm-size=8g.* data\.workers=0"),
    (1, r"ended with the exit code 1; to see why, set data\.workers=0"),
    (-11, r"ended with the exit code -11; to see why"),
])
def test_a_worker_that_ends_is_one_sentence(code, words):
    error = RuntimeError(f"Worker process was terminated unexpectedly with exit code {code}. Search the logs.")
    with pytest.raises(DataError, match=words):
        next(Batches(Failing(error), copy=True))


@pytest.mark.parametrize("number, words", [
    (errno.EROFS, "Read-only file system.*/dev/shm.*--shm-size"), (errno.ENOENT, "No such file.*/dev/shm"),
    (errno.ENOSPC, "No space left.*/dev/shm"), (errno.EMFILE, "Too many open files.*ulimit -n 4096.*data.workers=0"),
    (errno.EAGAIN, "fewer data.workers"), (errno.ENOMEM, "fewer data.workers"),
])  # fmt: skip
def test_workers_that_cannot_start_are_one_sentence(monkeypatch, number, words):
    error = OSError(number, os.strerror(number))
    with pytest.raises(DataError, match=words):
        next(Batches(Failing(error), copy=True))

    def refuse(_):
        raise error

    monkeypatch.setattr(mixture, "iter", refuse, raising=False)  # where Grain makes what the workers share
    with pytest.raises(DataError, match=words):
        train_batches([Source()], transform=Same(), batch=2, workers=1)


@pytest.mark.parametrize("error", [RuntimeError("another"), ValueError("another")])
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error), match="another"):
        next(Batches(Failing(error), copy=True))
    with pytest.raises(OSError, match="another"):
        next(Batches(Failing(OSError("another")), copy=False))


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_an_image_that_a_file_server_refuses_for_a_moment_is_asked_for_again(monkeypatch, number):
    monkeypatch.setattr(mixture, "PAUSES", (0.0, 0.0))
    left = [OSError(number, os.strerror(number))] * 2

    def at(i):
        if left:
            raise DataError("0.png cannot be read") from left.pop()

    batch = next(train_batches([Source(at)], transform=Same(), batch=2, threads=1))
    assert batch["image"].shape == (2, 8, 8, 3) and not left


@pytest.mark.parametrize("number, words", [(errno.EIO, "check the disk or the file server"), (errno.EMFILE, "ulimit -n 4096")])
def test_an_image_that_stays_out_of_reach_is_named_with_what_to_do(monkeypatch, number, words):
    monkeypatch.setattr(mixture, "PAUSES", (0.0, 0.0))

    def at(i):
        raise OSError(number, os.strerror(number), "/nfs/0.png")

    with pytest.raises(DataError, match=rf"town: element \d+ cannot be read: .*/nfs/0\.png.*; .*{words}"):
        next(train_batches([Source(at)], transform=Same(), batch=2, threads=1))


def test_a_missing_image_is_asked_for_once(monkeypatch):
    tried = []

    def at(i):
        tried.append(i)
        raise FileNotFoundError(errno.ENOENT, "No such file", "a.png")

    with pytest.raises(DataError, match=r"a\.png"):
        mixture.read(Source(at), 0)
    assert tried == [0]


def test_ctrl_c_in_a_terminal_does_not_end_the_workers(monkeypatch):
    """The terminal sends it to all of them; the trainer saves and then stops them."""
    set_to = []
    monkeypatch.setattr(mixture.signal, "signal", lambda number, handler: set_to.append((number, handler)))
    monkeypatch.setattr(mixture.cv2, "setNumThreads", lambda count: None)
    mixture._start_worker(0, 1)
    assert set_to == [(signal.SIGINT, signal.SIG_IGN)]

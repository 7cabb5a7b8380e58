"""One atomic write and one file lock: what stands under a name after every way in which writing it can go wrong."""

import errno
import os
import subprocess
import sys

import pytest

from data_pipelines import lock
from data_pipelines.atomic import atomic, write_atomically
from data_pipelines.lock import Taken, locked


@pytest.mark.parametrize("function, number", [("os.fsync", errno.ENOSPC), ("pathlib.Path.replace", errno.EIO), ("os.fsync", errno.EDQUOT)])
def test_a_write_that_fails_leaves_the_old_file_and_names_it(tmp_path, monkeypatch, function, number):
    path = tmp_path / "results.json"
    write_atomically(path, "old")

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(function, fail)
    with pytest.raises(OSError) as raised:
        write_atomically(path, "new")
    assert raised.value.filename == str(path) and raised.value.errno == number
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["results.json"]


def test_a_block_that_ends_by_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "a" / "model"
    write_atomically(path, b"old")
    with pytest.raises(KeyboardInterrupt), atomic(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and os.listdir(path.parent) == ["model"]


def test_text_is_utf8_and_long_names_fit(tmp_path):
    path = tmp_path / ("n" * 250)
    with atomic(path, "w") as file:
        file.write("ü")
    assert path.read_bytes() == "ü".encode()


def test_two_holders_of_one_lock(tmp_path):
    with locked(tmp_path / "lock"):
        with pytest.raises(Taken), locked(tmp_path / "lock"):
            pass
    with locked(tmp_path / "lock", wait=True):
        pass


def test_a_file_system_without_locks_is_no_reason_to_stop(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOTSUP, "no locks")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with locked(tmp_path / "lock"), locked(tmp_path / "lock"):
        pass


def test_nothing_needs_fcntl_to_be_imported(tmp_path):
    """Windows has none."""
    program = ("import sys; sys.modules['fcntl'] = None\n"
               "import rein_jax, data_pipelines, data_pipelines.prepare, rein_jax.training.workdir, rein_jax.weights.fetch\n"
               "from data_pipelines.lock import locked\n"
               f"with locked({str(tmp_path / 'lock')!r}): print('held')")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    assert done.stdout == "held\n", done.stderr

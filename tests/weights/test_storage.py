"""Storage that is full, read-only or changed behind our back: convert, export, downloads and the cache of weights."""

import errno
import os

import numpy as np
import pytest

from rein_jax.cli.main import main, use_compilation_cache
from rein_jax.errors import UserError
from rein_jax.weights import fetch, manifest
from rein_jax.weights.checkpoint import read_checkpoint
from rein_jax.weights.safetensors_file import write_safetensors
from rein_jax.weights.torch_write import write_torch

ARRAYS = {"w": np.arange(20000, dtype=np.float32), "v": np.ones((3, 4), np.float16)}


class Full:
    """An open file on a disk with room for so many more bytes."""

    def __init__(self, file, room: int):
        self.file, self.room = file, room

    def write(self, data) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.fixture
def full_disk(monkeypatch):
    """full_disk(bytes): what is opened for writing from now on has so much room."""

    def start(room: int):
        from data_pipelines import atomic

        def opened(path, mode="r", *arguments, **options):
            file = open(path, mode, *arguments, **options)
            return Full(file, room) if "r" not in mode else file

        monkeypatch.setattr(atomic, "open", opened, raising=False)

    return start


@pytest.mark.parametrize("room", [0, 100, 50000])
@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_convert_on_a_full_disk(tmp_path, full_disk, ending, room, capsys):
    """One sentence, the old file as it was, nothing half-written."""
    write_safetensors(tmp_path / "a.safetensors", ARRAYS)
    target = tmp_path / f"b{ending}"
    (write_torch if ending == ".pth" else write_safetensors)(target, {"old": np.ones(2)})
    before = target.read_bytes()
    full_disk(room)
    assert main(["convert", str(tmp_path / "a.safetensors"), str(target), "--force"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "No space left on device" in said and str(target) in said
    assert target.read_bytes() == before and len(list(tmp_path.iterdir())) == 2


def test_convert_where_nothing_may_be_written(tmp_path, monkeypatch, capsys):
    from data_pipelines import atomic

    def refuse(path, mode="r", *arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    write_safetensors(tmp_path / "a.safetensors", ARRAYS)
    monkeypatch.setattr(atomic, "open", refuse, raising=False)
    assert main(["convert", str(tmp_path / "a.safetensors"), str(tmp_path / "b.pth")]) == 2
    assert "b.pth cannot be written (Read-only file system)" in capsys.readouterr().err


def test_export_on_a_full_disk(tmp_path, monkeypatch, capsys):
    """The program or the note beside it does not fit: neither stays."""
    from rein_jax.export import run, stablehlo
    from tests.use.tiny import write_tiny

    model = write_tiny(tmp_path / "model.safetensors", "lora")
    for suffix in (".stablehlo", ".stablehlo.json"):

        def writing(path, data, suffix=suffix):
            if str(path).endswith(suffix):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            path.write_bytes(data)

        for module in (run, stablehlo):
            monkeypatch.setattr(module, "write_atomically", writing)
        monkeypatch.setattr(stablehlo, "write", lambda _, __, path: stablehlo.write_atomically(path, b"program"))
        monkeypatch.setattr(stablehlo, "read", lambda path: None)
        monkeypatch.setattr(run, "compare", lambda *_: {"largest_deviation": {}})
        monkeypatch.setattr(run, "speed", lambda *_: {})
        assert main(["export", str(model), "--to", "stablehlo", "--size", "32", "--out", str(tmp_path / "m")]) == 2
        assert "No space left on device" in capsys.readouterr().err
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors"]


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """The weights "test" in a cache, as after their first use."""
    monkeypatch.setenv("REIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REIN_OFFLINE", "1")
    monkeypatch.setitem(manifest.PUBLISHED, "test", manifest.Published("http://127.0.0.1:9/w.safetensors", "MIT", "page"))
    path = tmp_path / "cache/weights/test/w.safetensors"
    write_safetensors(path, ARRAYS)
    fetch.file_hash(path)
    return path


def test_altered_weights_of_the_same_size_and_time_are_refused(cached):
    before = cached.stat()
    data = bytearray(cached.read_bytes())
    data[-1] ^= 1
    cached.write_bytes(data)
    os.utime(cached, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cached.stat().st_size == before.st_size and cached.stat().st_mtime_ns == before.st_mtime_ns
    for use in (lambda: fetch.file_hash(cached), lambda: fetch.verify("test")):
        with pytest.raises(UserError, match="has changed since it was first used"):
            use()


def test_notes_of_older_versions_hold(cached):
    """They also named size and time of the file."""
    note = cached.with_name(cached.name + ".sha256")
    found = note.read_text().strip()
    note.write_text(f"{found} {cached.stat().st_size} {cached.stat().st_mtime_ns}\n")
    assert fetch.file_hash(cached) == found
    note.write_text("damaged\n")
    assert fetch.file_hash(cached) == found and note.read_text().strip() == found


def test_a_read_only_cache_that_holds_the_file_is_used(cached, monkeypatch):
    """Nothing is written for it, neither a lock nor a note."""
    from pathlib import Path

    cached.with_name(cached.name + ".sha256").unlink()
    (cached.parent / ".lock").unlink(missing_ok=True)

    def refuse(self, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode="r", *a, **k: opened(self, mode, *a, **k) if "r" in mode else refuse(self))
    for name in ("mkdir", "touch", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    path = fetch.ensure("test")
    assert path == cached and len(fetch.file_hash(path)) == 64 and len(read_checkpoint(path)) == 2
    assert [found.name for found in cached.parent.iterdir()] == [cached.name]
    monkeypatch.setitem(manifest.PUBLISHED, "other", manifest.PUBLISHED["test"])
    with pytest.raises(UserError, match="Read-only file system.*REIN_CACHE"):
        fetch.ensure("other")


@pytest.mark.parametrize("writable", [True, False])
def test_programs_are_kept_only_where_the_cache_can_be_written(tmp_path, monkeypatch, writable):
    """JAX would warn at each program that it cannot keep."""
    monkeypatch.setenv("REIN_CACHE", str(tmp_path / "not/yet/there"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setattr(os, "access", lambda place, _: writable and os.fspath(place) == str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", {**os.environ})
        use_compilation_cache()
        assert os.environ.get("JAX_COMPILATION_CACHE_DIR") == (str(tmp_path / "not/yet/there/xla") if writable else None)
    assert not (tmp_path / "not").exists()


def test_weights_in_a_read_only_folder_are_used(tmp_path, monkeypatch):
    """Outside the cache no note is written at all."""
    monkeypatch.setenv("REIN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "given").mkdir()
    write_safetensors(tmp_path / "given/w.safetensors", ARRAYS)
    fetch.file_hash(tmp_path / "given/w.safetensors")
    assert [path.name for path in (tmp_path / "given").iterdir()] == ["w.safetensors"]


def test_weights_without_a_home_folder(tmp_path, monkeypatch, capsys):
    """A path works without any cache; what needs the cache says so."""
    for name in ("HOME", "XDG_CACHE_HOME", "REIN_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("Could not determine home directory.")))
    write_safetensors(tmp_path / "w.safetensors", ARRAYS)
    assert len(fetch.file_hash(tmp_path / "w.safetensors")) == 64
    for arguments in (["show", str(tmp_path / "w.safetensors")], ["convert", str(tmp_path / "w.safetensors"), str(tmp_path / "w.pth")]):
        assert main(arguments) == 0
    capsys.readouterr()
    for arguments in (["weights", "list"], ["weights", "get", "dinov2_vits14"], ["weights", "verify", "dinov2_vits14"]):
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and ("REIN_CACHE" in said or "home folder" in said)


def test_a_download_onto_a_full_disk(cached, monkeypatch, tmp_path):
    """Not "cannot be reached": the disk is named."""
    from pathlib import Path

    class Answer:
        status, headers = 200, {"Content-Length": "10"}

        def read(self, size):
            return b"x" * 10

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    cached.unlink()
    monkeypatch.delenv("REIN_OFFLINE")
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: Answer())
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode="r", *a, **k: Full(opened(self, mode, *a, **k), 0) if ".part" in self.name
                        else opened(self, mode, *a, **k))
    with pytest.raises(UserError, match=r"w.safetensors.part cannot be written .No space left on device.") as caught:
        fetch.ensure("test")
    assert "reached" not in str(caught.value)

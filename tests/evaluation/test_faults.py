"""`rein evaluate` where one image fails, memory runs out or the disk is full: the table comes, and nothing counted is lost."""

import errno
import itertools
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeModel, FakeSource

from data_pipelines.atomic import partial_name, write_atomically
from rein_jax.cli import evaluate as command
from rein_jax.cli.main import main
from rein_jax.evaluation import windows
from rein_jax.evaluation.evaluator import evaluate
from rein_jax.evaluation.predictions import write_prediction
from rein_jax.metrics import confusion

HOW = {"protocol": "fit-64x64", "crop": 32, "stride": 21, "batch": 2, "progress": False, "panels": 0}


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_an_image_without_memory_is_left_out_by_name(tmp_path, monkeypatch):
    opened = windows.Predictor._open

    def hungry(self, query, lane):
        if query.tag == 2:
            raise MemoryError
        return opened(self, query, lane)

    monkeypatch.setattr(windows.Predictor, "_open", hungry)
    found = evaluate(FakeModel(), {"town": FakeSource(5)}, out=tmp_path, **HOW)
    assert found.domains["town"]["images"] == 4 and found.accumulators["town"].skipped[2].startswith("fog/002.png: needs more memory")
    monkeypatch.setattr(windows.Predictor, "_open", opened)  # more memory: only that image is measured
    source = FakeSource(5)
    assert evaluate(FakeModel(), {"town": source}, out=tmp_path, **HOW).domains["town"]["images"] == 5 and source.reads == 1


def test_an_image_without_memory_to_decode_is_left_out_by_name(monkeypatch):
    class Large(FakeSource):
        def __getitem__(self, i):
            if i == 1:
                raise MemoryError
            return super().__getitem__(i)

    found = evaluate(FakeModel(), {"town": Large(3)}, **HOW)
    assert found.domains["town"]["images"] == 2 and "too little memory" in found.accumulators["town"].skipped[1]


def test_a_pair_of_two_sizes_is_left_out_by_name():
    """Once it ended the evaluation after the hours of the images before it."""
    class Uneven(FakeSource):
        def __getitem__(self, i):
            element = super().__getitem__(i)
            return {**element, "label": element["label"][1:]} if i == 3 else element

    found = evaluate(FakeModel(), {"town": Uneven(5)}, **HOW)
    assert found.domains["town"]["images"] == 4
    why = "night/003.png: the label is 80x47 but the image is 80x48; make the pair equal in size."
    assert found.accumulators["town"].skipped == {3: why}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a driver died"), OSError(errno.EIO, "Input/output error")])
def test_what_was_counted_before_the_end_is_kept(error, tmp_path, monkeypatch):
    counted, made = confusion.confusion, itertools.count(1)

    def breaks(*arguments):
        if next(made) == 4:
            raise error
        return counted(*arguments)

    monkeypatch.setattr(confusion, "confusion", breaks)
    with pytest.raises(type(error)):
        evaluate(FakeModel(), {"town": FakeSource(12)}, out=tmp_path, **{**HOW, "save_every": 1000})
    monkeypatch.setattr(confusion, "confusion", counted)
    source = FakeSource(12)
    again = evaluate(FakeModel(), {"town": source}, out=tmp_path, **HOW)
    assert source.reads < 12 and again.domains["town"]["images"] == 12
    straight = evaluate(FakeModel(), {"town": FakeSource(12)}, **HOW)
    np.testing.assert_array_equal(again.accumulators["town"].matrices, straight.accumulators["town"].matrices)


@pytest.mark.parametrize("number, words", [
    (errno.ENOSPC, "No space left on device; free some space"), (errno.EDQUOT, "free some space"), (errno.EIO, "check the disk"),
    (errno.ESTALE, "the file server"), (errno.EROFS, "choose another place"), (errno.EMFILE, "ulimit -n"),
])  # fmt: skip
def test_a_disk_that_fails_is_one_sentence(number, words, tmp_path, monkeypatch, capsys):
    """The system's error of a write names no file."""
    def failing(*_):
        raise OSError(number, "No space left on device")

    monkeypatch.setattr(command, "run_config", lambda model: None)
    monkeypatch.setattr(command, "open_domains", lambda *_: {"town": FakeSource(2)})
    monkeypatch.setattr("rein_jax.evaluation.eval_model.open_model", lambda path: (_parts(), {"name": "x", "identity": "x"}))
    monkeypatch.setattr("os.fsync", failing)
    assert main(["evaluate", str(tmp_path), "--crop", "32", "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"rein evaluate: {tmp_path}/out/") and words in message
    assert not list((tmp_path / "out").rglob("*.partial*"))


def _parts():
    from rein_jax import trees

    module_def, _, params = trees.split(FakeModel(), ())
    return module_def, params


def test_a_prediction_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    labels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    path = write_prediction(tmp_path, "a/b.jpg", labels)
    before = path.read_bytes()
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*a/b.png'"):
        write_prediction(tmp_path, "a/b.jpg", labels * 2)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == ["b.png"]


def test_files_with_the_longest_names_are_written_whole(tmp_path):
    for name in ("n" * 251 + ".png", "東" * 83 + ".npz", "x"):
        write_atomically(tmp_path / name, b"1")
        assert (tmp_path / name).read_bytes() == b"1"
    partial = partial_name(tmp_path / ("n" * 251 + ".png"))
    assert partial.parent == tmp_path and partial.suffix == ".png" and len(partial.name) < 50

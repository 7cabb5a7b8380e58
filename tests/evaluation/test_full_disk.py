"""A disk that is full while a report or a table is written: one sentence, and the old file stays."""

import builtins
import errno
import io
from pathlib import Path

import pytest
from fakes import FakeModel, FakeSource

from rein_jax.cli.main import main
from rein_jax.evaluation.evaluator import evaluate
from rein_jax.reporting import load_results, write_report
from tests.experiments.made import make_run


class Full(io.BytesIO):
    """A file on a full disk."""

    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def full(monkeypatch):
    """`full(folder)` fills the disk of a folder: files can be made there, but nothing can be written into them."""
    opened = io.open

    def fill(folder):
        def open_there(file, mode="r", *args, **kwargs):
            found = opened(file, mode, *args, **kwargs)
            if isinstance(file, int) or "r" in mode or not Path(file).is_relative_to(folder):
                return found
            found.close()
            return Full()

        monkeypatch.setattr(io, "open", open_there)
        monkeypatch.setattr(builtins, "open", open_there)

    return fill


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    evaluate(FakeModel(), {"town": FakeSource(2)}, out=folder, crop=32, stride=21, panels=1, progress=False)
    return folder


@pytest.mark.parametrize("command", ["report", "comparison", "html", "csv"])
def test_the_old_page_stays_and_one_sentence_names_it(run, command, tmp_path, full, capsys):
    out = tmp_path / "out" / "page"
    out.parent.mkdir()
    out.write_text("old")
    made = make_run(tmp_path / "made", "configs/camvid_dinov2s.py", {"camvid": 70.0})
    full(out.parent)
    argv = {"report": ["report", str(run)], "comparison": ["report", str(run), str(run)]}
    assert main([*argv.get(command, ["tables", str(made), "--format", command]), "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and str(out) in message and "No space left on device" in message
    assert out.read_text() == "old" and [file.name for file in out.parent.iterdir()] == ["page"]


def test_the_old_results_stay(run, full):
    found, before = load_results(run), (run / "results.json").read_bytes()
    full(run)
    with pytest.raises(OSError, match="results.json"):
        found.save(run)
    with pytest.raises(OSError, match="report.html"):
        write_report(found)
    assert (run / "results.json").read_bytes() == before and not list(run.glob("*partial*")) and not (run / "report.html").exists()

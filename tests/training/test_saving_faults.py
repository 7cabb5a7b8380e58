"""Checkpoints that cannot be written, and runs that end in other ways: the last good one stays, and nothing else is lost."""

import errno
import json
import os
import shutil
import signal
import sys
from types import SimpleNamespace

import numpy as np
import orbax.checkpoint as ocp
import pytest
from stand_in import make_components
from stand_in_runs import CONFIG, go

from rein_jax.errors import UserError
from rein_jax.training import checkpoint
from rein_jax.training.checkpoint import Checkpoints
from rein_jax.training.guards import Preempted
from rein_jax.training.metrics import read_metrics


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished") / "run"
    go(workdir)
    return workdir


def failing_saves(monkeypatch, fails):
    """`save` of Orbax fails for the attempts (counted from 0) that `fails` names."""
    count, real = [], ocp.CheckpointManager.save

    def save(self, *arguments, **options):
        count.append(1)
        if fails(len(count) - 1):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, *arguments, **options)

    monkeypatch.setattr(ocp.CheckpointManager, "save", save)
    return count


def test_a_checkpoint_that_fails_once_is_written_at_once_again(tmp_path, monkeypatch, capfd):
    count = failing_saves(monkeypatch, lambda n: n == 1)
    assert go(tmp_path / "run")["steps"] == 6
    assert len(count) == 4 and sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == ["2", "4", "6"]
    said = capfd.readouterr().err
    assert said.count("could not be written") == 1 and "step 4" in said and "No space left on device" in said


def test_a_checkpoint_that_cannot_be_written_ends_the_run_after_the_last_good_one(tmp_path, monkeypatch, capfd):
    failing_saves(monkeypatch, lambda n: n >= 1)
    with pytest.raises(UserError, match=r"last checkpoint could not be written .*No space left on device\. Free some space there"):
        go(tmp_path / "run")
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["2"]
    assert [row["step"] for row in read_metrics(tmp_path / "run")][-1] == 4, "no step is computed that could not be kept"
    assert "Event loop" not in capfd.readouterr().err
    monkeypatch.undo()
    assert go(tmp_path / "run")["steps"] == 6


def test_a_save_that_fails_in_the_background_is_noticed_and_made_up_for(tmp_path, monkeypatch):
    """The newest checkpoint is then of the step at which it was noticed, long before the next that was due."""
    real, fails = ocp.CheckpointManager.wait_until_finished, [True]

    def wait(self):
        real(self)
        if fails and 2 in self.all_steps():
            fails.clear()
            shutil.rmtree(self.directory / "2")
            raise ValueError("RESOURCE_EXHAUSTED: Error writing local file: [OS error 28: ENOSPC No space left on device]")

    monkeypatch.setattr(ocp.CheckpointManager, "wait_until_finished", wait)
    monkeypatch.setattr(ocp.CheckpointManager, "is_saving_in_progress", lambda self: False)
    go(tmp_path / "run", config={**CONFIG, "train": {**CONFIG["train"], "checkpoint_every": 2, "keep": 9}})
    assert [int(p.name) for p in sorted((tmp_path / "run" / "checkpoints").iterdir())] == [3, 4, 6]


def test_answers_that_come_after_a_failed_read_or_write_are_not_printed(monkeypatch):
    """One failure in Orbax's parallel reads and writes was followed by 54 lines "Event loop is closed"."""
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    for _ in range(2):
        checkpoint._drop_late_answers()
    other = SimpleNamespace(exc_value=RuntimeError("another"))
    for unraisable in (SimpleNamespace(exc_value=RuntimeError("Event loop is closed")), other):
        sys.unraisablehook(unraisable)
    assert seen == [other]


def test_an_error_while_a_checkpoint_is_written_waits_for_it(tmp_path, monkeypatch):
    waited, real = [], ocp.CheckpointManager.wait_until_finished
    monkeypatch.setattr(ocp.CheckpointManager, "wait_until_finished", lambda self: (waited.append(1), real(self))[1])

    def build(config):
        components = make_components(config)
        plain = components.batches

        def batches(*where):
            for step, batch in enumerate(plain(*where)):
                if step == 2:
                    waited.clear()
                    raise UserError("an image is damaged")
                yield batch

        components.batches = batches
        return components

    with pytest.raises(UserError, match="an image is damaged"):
        go(tmp_path / "run", build=build)
    assert waited and (tmp_path / "run" / "checkpoints" / "2" / "commit_success.txt").exists()
    assert json.loads((tmp_path / "run" / "saved.json").read_text()) == {"step": 2}


@pytest.mark.parametrize("times, end", [(1, Preempted), (2, KeyboardInterrupt)])
def test_ctrl_c_once_saves_and_twice_interrupts(tmp_path, times, end):
    def build(config):
        components = make_components(config)
        plain = components.batches

        def batches(*where):
            for step, batch in enumerate(plain(*where)):
                for _ in range(times if step == 2 else 0):
                    signal.raise_signal(signal.SIGINT)
                yield batch

        components.batches = batches
        return components

    with pytest.raises(end):
        go(tmp_path / "run", build=build)
    saved = json.loads((tmp_path / "run" / "saved.json").read_text())["step"]
    assert (tmp_path / "run" / "checkpoints" / str(saved)).is_dir() and saved == (4 if times == 1 else 2)
    assert go(tmp_path / "run")["steps"] == 6


@pytest.mark.parametrize("number, words", [(errno.EMFILE, "ulimit -n"), (errno.EROFS, "writable"), (errno.EDQUOT, "quota"),
                                           (errno.EIO, "disk")])
def test_an_error_of_the_system_anywhere_in_a_run_is_one_sentence(tmp_path, number, words):
    def build(config):
        raise OSError(number, os.strerror(number), "/data/a.png")

    with pytest.raises(UserError, match=rf"/data/a\.png: .*{words}.*run the same command again"):
        go(tmp_path / "run", build=build)


def test_a_workdir_renamed_while_it_trains_ends_the_run_and_goes_on_at_its_new_place(tmp_path, monkeypatch):
    here, there, store, opened = tmp_path / "here", tmp_path / "there", [], Checkpoints._open
    monkeypatch.setattr(Checkpoints, "_open", lambda self: (store.append(self), opened(self))[1])

    def build(config):
        components = make_components(config)
        plain = components.batches

        def batches(*where):
            for step, batch in enumerate(plain(*where)):
                if step == 3 and here.exists():
                    while not (here / "saved.json").exists():  # the background save is through
                        store[0].noticed_failure()
                    here.rename(there)
                yield batch

        components.batches = batches
        return components

    with pytest.raises(UserError, match="is gone: it was renamed or removed"):
        go(here, build=build)
    monkeypatch.undo()
    assert not here.exists() and sorted(p.name for p in (there / "checkpoints").iterdir()) == ["2"]
    assert go(there)["steps"] == 6
    assert [row["step"] for row in read_metrics(there) if row["kind"] == "train"] == [1, 2, 3, 4, 5, 6]


def test_killed_while_the_report_is_written_the_run_makes_it_again(finished, tmp_path):
    run, made = shutil.copytree(finished, tmp_path / "run"), []

    def killed(workdir):
        (workdir / "report.html").write_text("<ht")
        raise KeyboardInterrupt  # leaves the run where it stands

    with pytest.raises(KeyboardInterrupt):
        go(run, report=killed)
    go(run, report=made.append)
    assert made == [run] and json.loads((run / "results.json").read_text())["steps"] == 6


def test_values_are_those_of_an_undisturbed_run(finished, tmp_path, monkeypatch):
    """A failing save and a second attempt change nothing of what is computed."""
    failing_saves(monkeypatch, lambda n: n == 0)
    go(tmp_path / "run")
    losses = [[row["loss"] for row in read_metrics(folder) if row["kind"] == "train"] for folder in (finished, tmp_path / "run")]
    np.testing.assert_array_equal(*losses)

"""Checkpoints on storage that fails: what can be read again is waited for, nothing is renamed unproven, nothing begins at 0 unasked."""

import errno
import json
import os
import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest
from run_train import evaluate
from stand_in import make_parts

from data_pipelines import system_errors
from rein_jax.errors import UserError
from rein_jax.training import checkpoint
from rein_jax.training.checkpoint import Checkpoints
from rein_jax.training.loop import train
from rein_jax.training.metrics import read_metrics
from rein_jax.training.workdir import alone
from tests.training.test_checkpoint import saved, state_of, truncate

CONFIG = {"seed": 0, "train": {"steps": 6, "batch": 4, "log_every": 1, "checkpoint_every": 2, "tensorboard": False}}


def go(workdir, build=make_parts, config=CONFIG, **ways):
    return train(config, workdir, build=build, evaluate=evaluate, **ways)


def files(folder):
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(checkpoint, "PAUSES", (0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished") / "run"
    go(workdir)
    return workdir


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(finished, tmp_path / "run")


def system(number):
    return OSError(number, os.strerror(number), "/nfs/checkpoints/2")


ERRORS = [system(number) for number in (errno.EIO, errno.ESTALE, errno.EACCES, errno.EMFILE, errno.ETIMEDOUT, errno.ENOMEM)] + [
    ValueError('UNKNOWN: Error opening "zarr" driver: Error reading local file "d/1": [OS error 5: EIO Input/output error]'),
    ValueError('RESOURCE_EXHAUSTED: Error opening "zarr" driver: Failed to open "d/1" [OS error 24: EMFILE Too many open files]'),
    ValueError('PERMISSION_DENIED: Error opening "zarr" driver'), MemoryError(), ExceptionGroup("two reads", [system(errno.EIO)]),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error)[:24].replace("/", "-"))
def test_what_the_system_does_not_give_is_tried_again_and_then_ends_the_run_with_nothing_renamed(tmp_path, monkeypatch, error):
    saved(tmp_path, 1, 2).close()
    before, said, tried = files(tmp_path), [], []

    def refuse(*_, **__):
        tried.append(1)
        raise error

    store = Checkpoints(tmp_path, 3, said.append)
    monkeypatch.setattr(ocp.CheckpointManager, "restore", refuse)
    with pytest.raises(UserError, match=r"step 2 in .* cannot be read \(.*nothing there was changed"):
        store.restore(state_of())
    assert files(tmp_path) == before and len(tried) == 4 and len(said) == 3
    monkeypatch.undo()
    assert store.restore(state_of())[1]["step"] == 2
    store.close()


@pytest.mark.parametrize("failures", [1, 3])
def test_a_file_server_that_fails_for_a_moment_costs_nothing(tmp_path, monkeypatch, failures):
    saved(tmp_path, 1, 2).close()
    store, left, real = Checkpoints(tmp_path, 3, [].append), [system(errno.EIO)] * failures, ocp.CheckpointManager.restore

    def sometimes(self, *arguments, **options):
        if left:
            raise left.pop()
        return real(self, *arguments, **options)

    monkeypatch.setattr(ocp.CheckpointManager, "restore", sometimes)
    assert store.restore(state_of())[1]["step"] == 2
    store.close()


def test_an_error_that_a_library_hides_is_found_by_reading_the_files(tmp_path, monkeypatch):
    saved(tmp_path, 1).close()
    store = Checkpoints(tmp_path, 3, [].append)

    def bare(*_, **__):
        raise ValueError("cannot decode")

    def refuse(path, *_):
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    monkeypatch.setattr(ocp.CheckpointManager, "restore", bare)
    monkeypatch.setattr(system_errors, "open", refuse, raising=False)
    with pytest.raises(UserError, match=r"cannot be read \(Input/output error\)"):
        store.restore(state_of())
    assert (tmp_path / "1").is_dir()
    store.close()


@pytest.mark.parametrize("error", [RuntimeError("a fault of Orbax"), ImportError("zstd"), ValueError("INTERNAL: what")])
def test_an_error_that_proves_nothing_renames_nothing(tmp_path, monkeypatch, error):
    saved(tmp_path, 1).close()
    store = Checkpoints(tmp_path, 3, [].append)

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(ocp.CheckpointManager, "restore", refuse)
    with pytest.raises(UserError, match="nothing there was changed"):
        store.restore(state_of())
    assert (tmp_path / "1").is_dir()
    store.close()


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(run, monkeypatch):
    before = files(run)

    def refuse(path="."):
        if str(path).endswith("checkpoints"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(path)

    real = os.listdir
    monkeypatch.setattr(checkpoint.os, "listdir", refuse)
    with pytest.raises(UserError, match=r"cannot be opened \(Input/output error\)"):
        go(run)
    assert files(run) == before


def edit_meta(step, **changes):
    path = step / "meta" / "metadata"
    meta = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in meta.items() if value is not None}))


@pytest.mark.parametrize("more", [{}, {"arrays": None, "sums": None, "config": None}])
def test_a_checkpoint_of_a_newer_version_is_refused_by_name(tmp_path, more):
    saved(tmp_path, 1, 2).close()
    edit_meta(tmp_path / "2", format=2, version="9.1", **more)
    store = Checkpoints(tmp_path, 3, [].append)
    with pytest.raises(UserError, match=r"step 2 .* newer version of rein_jax \(format 2, version 9\.1; .*update rein_jax"):
        store.restore(state_of())
    assert store.steps() == [1, 2]
    store.close()


@pytest.mark.parametrize("changes", [{"arrays": None}, {"arrays": []}, {"format": "x"}, {"sums": {"trainable": {"['head/kernel']": 7}}}])
def test_meta_data_that_were_altered_are_damage(tmp_path, changes):
    saved(tmp_path, 1, 2).close()
    edit_meta(tmp_path / "2", **changes)
    store = Checkpoints(tmp_path, 3, [].append)
    assert store.restore(state_of())[1]["step"] == 1 and (tmp_path / "damaged-2").is_dir()
    store.close()


def test_without_a_whole_checkpoint_nothing_begins_at_0_unasked(run):
    for step in (run / "checkpoints").iterdir():
        truncate(step)
    lines = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="None of the checkpoints .* is whole; .*--restart"):
        go(run)
    with pytest.raises(UserError, match=r"has trained \(.*damaged-6.*--restart"):  # the same command again
        go(run)
    assert (run / "metrics.jsonl").read_bytes() == lines


def test_a_finished_run_without_its_checkpoints_is_refused_and_keeps_its_log(run):
    shutil.rmtree(run / "checkpoints")
    before = files(run)
    with pytest.raises(UserError, match=r"has trained \(.*model\.safetensors.*Put that back, or add --restart"):
        go(run)
    assert files(run) == before


def test_a_stopped_run_without_its_checkpoints_is_refused(finished, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.json", "metrics.jsonl", "saved.json"):
        shutil.copy(finished / name, run)
    with pytest.raises(UserError, match=r"has trained \(saved\.json\)"):
        go(run)
    assert (run / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()


def test_a_run_killed_before_its_first_checkpoint_begins_again(finished, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(finished / "config.json", run)
    (run / "metrics.jsonl").write_bytes(b"".join((finished / "metrics.jsonl").read_bytes().splitlines(True)[:1]))
    assert go(run)["steps"] == 6
    assert [row["step"] for row in read_metrics(run) if row["kind"] == "train"] == [1, 2, 3, 4, 5, 6]


def test_restart_begins_at_0_and_keeps_what_was_there(run, capsys):
    before = files(run)
    for number in (1, 2):
        other = {**CONFIG, "seed": number}
        assert go(run, config=other, restart=True)["steps"] == 6
        assert json.loads((run / "config.json").read_text())["seed"] == number
    assert "restarted-2; this one begins at step 0" in capsys.readouterr().out
    assert files(run / "restarted-1") == before and (run / "restarted-2" / "checkpoints" / "6").is_dir()


def test_restart_moves_nothing_while_another_training_runs_there(run):
    before = files(run)
    with alone(run), pytest.raises(UserError, match="Another `rein train` is running"):
        go(run, restart=True)
    assert files(run) == before


def test_a_config_json_removed_while_it_trains_ends_nothing(tmp_path):
    run = tmp_path / "run"

    def build(config):
        parts = make_parts(config)
        plain = parts.batches

        def batches(*where):
            for step, batch in enumerate(plain(*where)):
                if step == 1:
                    (run / "config.json").unlink()
                yield batch

        parts.batches = batches
        return parts

    assert go(run, build=build)["steps"] == 6


def test_restart_of_nothing_is_a_start(tmp_path):
    assert go(tmp_path / "run", restart=True)["steps"] == 6
    assert not list((tmp_path / "run").glob("restarted-*"))


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


def test_an_error_while_a_checkpoint_is_written_waits_for_it(tmp_path, monkeypatch):
    waited, real = [], ocp.CheckpointManager.wait_until_finished
    monkeypatch.setattr(ocp.CheckpointManager, "wait_until_finished", lambda self: (waited.append(1), real(self))[1])

    def build(config):
        parts = make_parts(config)
        plain = parts.batches

        def batches(*where):
            for step, batch in enumerate(plain(*where)):
                if step == 2:
                    waited.clear()
                    raise UserError("an image is damaged")
                yield batch

        parts.batches = batches
        return parts

    with pytest.raises(UserError, match="an image is damaged"):
        go(tmp_path / "run", build=build)
    assert waited and (tmp_path / "run" / "checkpoints" / "2" / "commit_success.txt").exists()
    assert json.loads((tmp_path / "run" / "saved.json").read_text()) == {"step": 2}


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
        parts = make_parts(config)
        plain = parts.batches

        def batches(*where):
            for step, batch in enumerate(plain(*where)):
                if step == 3 and here.exists():
                    while not (here / "saved.json").exists():  # the background save is through
                        store[0].noticed_failure()
                    here.rename(there)
                yield batch

        parts.batches = batches
        return parts

    with pytest.raises(UserError, match="has gone: it was renamed or removed"):
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

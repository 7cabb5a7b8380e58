"""Checkpoints on storage that fails: what can be read again is waited for, nothing is renamed unproven, nothing begins at 0 unasked."""

import errno
import json
import os
import shutil
from pathlib import Path

import orbax.checkpoint as ocp
import pytest
from stand_in import make_components
from stand_in_runs import CONFIG, files, go

from data_pipelines import system_errors
from rein_jax.errors import UserError
from rein_jax.training import checkpoint
from rein_jax.training.checkpoint import Checkpoints
from rein_jax.training.metrics import read_metrics
from rein_jax.training.workdir import alone
from tests.training.test_checkpoint import saved, state_of, truncate


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(checkpoint, "PAUSES", (0.0, 0.0, 0.0))


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
    assert "restarted-2; this one starts from step 0" in capsys.readouterr().out
    assert files(run / "restarted-1") == before and (run / "restarted-2" / "checkpoints" / "6").is_dir()


def test_restart_moves_nothing_while_another_training_runs_there(run):
    before = files(run)
    with alone(run), pytest.raises(UserError, match="Another `rein train` is running"):
        go(run, restart=True)
    assert files(run) == before


def test_a_config_json_removed_while_it_trains_ends_nothing(tmp_path):
    run = tmp_path / "run"

    def build(config):
        components = make_components(config)
        plain = components.batches

        def batches(*where):
            for step, batch in enumerate(plain(*where)):
                if step == 1:
                    (run / "config.json").unlink()
                yield batch

        components.batches = batches
        return components

    assert go(run, build=build)["steps"] == 6


def test_restart_of_nothing_is_a_start(tmp_path):
    assert go(tmp_path / "run", restart=True)["steps"] == 6
    assert not list((tmp_path / "run").glob("restarted-*"))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_workdir_or_config_json_that_cannot_be_read_is_one_sentence(run, monkeypatch, number):
    before, real = files(run), Path.stat

    def refuse(self, **options):
        if self.name == "config.json":
            raise OSError(number, os.strerror(number), str(self))
        return real(self, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(UserError, match=rf"cannot go on: .*config\.json: {os.strerror(number)}\. What to do: "):
        go(run)
    monkeypatch.undo()
    assert files(run) == before

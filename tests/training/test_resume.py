"""A run is interrupted in every way we know and goes on to the same numbers, bit by bit (CPU)."""

import contextlib
import dataclasses
import io
import json
import shutil
import signal

import optax
import pytest
from processes import run
from run_train import main
from stand_in import Classes, make_components

from rein_jax.errors import UserError
from rein_jax.training.loop import train

CONFIG = {"seed": 3, "train": {"steps": 20, "batch": 8, "checkpoint_every": 6, "log_every": 1, "keep": 2, "ema": 0.9}}


def arguments(workdir, **train):
    return str(workdir), json.dumps({**CONFIG, "train": {**CONFIG["train"], **train}})


def here(workdir, **train):
    """(exit code, output) of run_train.py without a process of its own, which is faster and has to give the same bits."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        code = main(workdir, json.loads(arguments(workdir, **train)[1]))
    return code, output.getvalue()


def result(output):
    return json.loads(output.strip().splitlines()[-1])


def lines(workdir, kind="train"):
    """The metrics without those that measure time."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    timed = ("images_per_second", "step_seconds", "data_wait")
    return [{k: v for k, v in row.items() if k not in timed} for row in rows if row["kind"] == kind]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """20 steps without interruption: (workdir, result)."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    code, output = here(workdir)
    assert code == 0, output
    return workdir, result(output)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The same run, sent SIGTERM while it fetched batch 14: (workdir, exit code, output)."""
    workdir = tmp_path_factory.mktemp("stopped") / "run"
    return workdir, *run("run_train.py", *arguments(workdir), STOP_AT="14")


def test_sigterm_saves_and_exits_75(stopped):
    workdir, code, output = stopped
    assert code == 75, output
    assert "saved at step 16" in output
    assert (workdir / "checkpoints" / "16").is_dir() and not (workdir / "model.safetensors").exists()


def test_resumed_run_is_bit_equal_and_its_log_has_every_step_once(straight, stopped, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(stopped[0], workdir)
    code, output = run("run_train.py", *arguments(workdir, keep=1))  # `keep` may change
    assert code == 0, output
    assert "resuming at step 16 of 20" in output
    assert result(output) == straight[1]
    assert lines(workdir) == lines(straight[0])
    assert [row["step"] for row in lines(workdir)] == list(range(1, 21))


@pytest.mark.parametrize("moment, at, goes_on", [
    ("KILL_AT", 14, "resuming at step 12"),
    ("KILL_IN_SAVE", 12, "resuming at step 6"),
    ("KILL_IN_SAVE", 6, None),  # nothing was saved yet: it begins anew
])
def test_kill_9_between_saves_and_in_one(straight, tmp_path, moment, at, goes_on):
    workdir = tmp_path / "run"
    code, output = run("run_train.py", *arguments(workdir), **{moment: str(at)})
    assert code == -signal.SIGKILL, output
    assert lines(workdir)[:6] == lines(straight[0])[:6] and len(lines(workdir)) < 20
    code, output = here(workdir)
    assert code == 0, output
    assert goes_on in output if goes_on else "resuming" not in output
    assert result(output) == straight[1]
    assert lines(workdir) == lines(straight[0])


def test_damaged_newest_checkpoint_falls_back_and_says_so(straight, stopped, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(stopped[0], workdir)
    for file in (workdir / "checkpoints" / "16" / "trainable").rglob("d/*"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    (workdir / "checkpoints" / "19.orbax-checkpoint-tmp").mkdir()  # what a kill while saving leaves
    code, output = here(workdir)
    assert code == 0, output
    assert "the checkpoint of step 16" in output and "is damaged" in output and "resuming at step 12" in output
    assert result(output) == straight[1]
    assert (workdir / "checkpoints" / "damaged-16").is_dir()


def test_finished_run_only_repeats_its_end(straight):
    code, output = here(straight[0])
    assert code == 0, output
    assert result(output) == straight[1]
    assert [row["step"] for row in lines(straight[0], "eval")] == [20]


def test_evaluation_owed_by_a_killed_run_is_made_up_for(tmp_path):
    workdir, config = tmp_path / "run", {**CONFIG, "train": {**CONFIG["train"], "steps": 6, "checkpoint_every": 3, "eval_every": 3}}
    evaluate = lambda *_: {"mean": {"mIoU": 1.0}}
    train(config, workdir, build=make_components, evaluate=evaluate)
    shutil.rmtree(workdir / "checkpoints" / "6")
    kept = [line for line in (workdir / "metrics.jsonl").read_text().splitlines() if '"eval"' not in line]
    (workdir / "metrics.jsonl").write_text("\n".join(kept) + "\n")
    train(config, workdir, build=make_components, evaluate=evaluate)
    assert [row["step"] for row in lines(workdir, "eval")] == [3, 6]


def test_other_config_is_refused_with_the_difference(stopped):
    before = {p: p.stat().st_mtime_ns for p in stopped[0].rglob("*")}
    with pytest.raises(UserError) as refused:
        train({**CONFIG, "train": {**CONFIG["train"], "steps": 30, "batch": 4}}, stopped[0], build=make_components)
    assert "train.batch: 8 -> 4" in str(refused.value) and "train.steps: 20 -> 30" in str(refused.value)
    assert {p: p.stat().st_mtime_ns for p in stopped[0].rglob("*")} == before


@pytest.mark.parametrize("change, words", [
    ({"fingerprint": "other data"}, "training data changed"),
    ({"weights": {"source": "x.pth", "sha256": "12"}}, "frozen weights are not those"),
    ({"classes": Classes(("a", "b", "c", "z"), ((0, 0, 0),) * 4)}, "other classes"),
    ({"tx": optax.sgd(0.1)}, "opt_state does not fit"),
])
def test_other_data_weights_classes_or_optimizer_are_refused_by_name(stopped, tmp_path, change, words):
    workdir = tmp_path / "run"
    shutil.copytree(stopped[0], workdir)
    with pytest.raises(UserError, match=words):
        train(CONFIG, workdir, build=lambda config: dataclasses.replace(make_components(config), **change))

"""The guards inside a whole run: steps that are not finite, changing shapes, jumps of the loss, useless data, traces."""

import json
import re

import numpy as np
import pytest
from run_train import evaluate
from stand_in import batches_of, make_components

from rein_jax.configuration.training import profiled_steps, settings
from rein_jax.errors import UserError
from rein_jax.training.guards import StepGuard
from rein_jax.training.loop import train
from rein_jax.training.metrics import MetricLog, clean, read_metrics

BASE = {"steps": 6, "batch": 4, "log_every": 1, "checkpoint_every": 0, "tensorboard": False, "eval_at_end": False}


def go(workdir, bad=(), change=None, **more):
    def build(config):
        components = make_components(config, bad=bad)
        components.batches = change(components.batches) if change else components.batches
        return components

    return train({"seed": 0, "train": {**BASE, **more}}, workdir, build=build, evaluate=evaluate)


def test_not_finite_steps_are_skipped_counted_and_named(tmp_path, capfd):
    results = go(tmp_path / "run", bad=(2, 3))
    assert results["skipped_steps"] == 2
    said = capfd.readouterr().err
    assert "step 3 skipped" in said and "img8.png" in said and "step 4 skipped" in said
    rows = read_metrics(tmp_path / "run")
    assert rows[2]["loss"] is None and rows[4]["loss"] is not None


def test_too_many_in_a_row_end_the_run_with_the_files(tmp_path):
    with pytest.raises(UserError, match=r"3 steps in a row.*img12\.png.*train\.skip_limit"):
        go(tmp_path / "run", bad=(1, 2, 3, 4), skip_limit=3)


def test_a_second_compilation_fails_the_run_and_names_the_shapes(tmp_path):
    def change(batches):
        def shrinking(*where):
            for step, batch in enumerate(batches(*where)):
                yield batch if step < 3 else {**batch, "image": batch["image"][:, :8], "label": batch["label"][:, :8]}

        return shrinking

    with pytest.raises(UserError, match=re.escape("compiled 2 times, train.compile_budget=1")) as raised:
        go(tmp_path / "one", change=change)
    assert "image [4, 16, 16, 3]" in str(raised.value) and "image [4, 8, 16, 3]" in str(raised.value)


def test_profile_traces_the_chosen_steps_and_logs_the_split_of_time(tmp_path):
    results = go(tmp_path / "run", profile="2:4", tensorboard=True, eval_every=3, eval_at_end=True)
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    rows = read_metrics(tmp_path / "run")
    assert {"loss", "pixel", "lr", "grad_norm", "images_per_second", "step_seconds", "data_wait"} <= rows[0].keys()
    assert [row["step"] for row in rows if row["kind"] == "eval"] == [3, 6]
    assert results["compilations"] == 1
    assert json.loads((tmp_path / "run" / "results.json").read_text())["best"]["step"] in (3, 6)
    assert (tmp_path / "run" / "best.safetensors").exists()


def test_loss_spike_is_reported_once_a_median_exists():
    guard, fine = StepGuard(5, 4.0), {"finite": 1.0, "row": 0.0, "grad_norm": 1.0}
    assert all(not guard.check(step, {**fine, "loss": 1.0}, ["a.png"]) for step in range(12))
    (warning,) = guard.check(12, {**fine, "loss": 9.0}, ["a.png"])
    assert "9.0 times" in warning and "a.png" in warning


def test_dead_data_is_reported_at_most_five_times():
    guard = StepGuard(5, 4.0)
    batch = next(batches_of(2)(0, 0, 1))
    names = batch.pop("name")
    assert guard.check_batch(1, batch, names) == []
    dead = {**batch, "image": batch["image"].copy(), "label": np.full_like(batch["label"], 255)}
    dead["image"][1] = 7
    warnings = guard.check_batch(1, dead, names)
    assert len(warnings) == 2 and "no labelled pixel" in warnings[0] and "img1.png" in warnings[1]
    assert sum(bool(guard.check_batch(i, dead, names)) for i in range(9)) == 4


def test_settings_mistakes_are_one_sentence():
    for section, words in [({"stepps": 3}, "Did you mean train.steps"), ({"steps": 0}, "train.steps must be at least 1"),
                           ({"batch": 4, "accumulate": 3}, "does not divide"), ({"ema": 1.0}, "train.ema"), ({"profile": "9"}, "10:15")]:
        with pytest.raises(UserError, match=words):
            settings(section)
    assert profiled_steps("10:15") == range(10, 15)


def test_batch_must_spread_over_devices(tmp_path):
    with pytest.raises(UserError, match="does not fill"):
        train({"mesh": {"data": 3}, "train": BASE}, tmp_path / "run", build=make_components)


def test_log_cuts_what_a_killed_run_wrote_later(tmp_path):
    log = MetricLog(tmp_path, 0, tensorboard=False)
    for step in (1, 2, 3):
        log.write(step, "train", {"loss": step})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    MetricLog(tmp_path, 2, tensorboard=False).close()
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]
    assert clean(float("nan")) is None and clean(3.0) == 3


def test_a_finished_run_that_is_run_again_logs_its_last_evaluations_once(tmp_path):
    for start, last in ((0, False), (2, True), (2, True)):
        log = MetricLog(tmp_path, start, tensorboard=False, last=last)
        for step in range(start + 1, 3):
            log.write(step, "train", {"loss": step})
        if not start:
            log.write(1, "sample", {"mIoU": 1})
        log.write(2, "sample", {"mIoU": 2})
        log.write(2, "eval", {"mIoU": 3})
        log.close()
    seen = [(row["step"], row["kind"]) for row in read_metrics(tmp_path)]
    assert seen == [(1, "train"), (2, "train"), (1, "sample"), (2, "sample"), (2, "eval")]

"""A run's folder and its config: what is refused, what may change."""

import json

import pytest

from rein_jax.errors import UserError
from rein_jax.training.metrics import MetricLog, read_metrics
from rein_jax.training.run_metadata import check_resume
from rein_jax.training.workdir import alone, difference, open_workdir, renew_config

CONFIG = {"seed": 0, "mesh": {"data": -1}, "data": {"workers": 0, "crop": [64, 64]}, "train": {"steps": 10, "keep": 3}}


def test_new_folder_then_the_same_config(tmp_path):
    open_workdir(tmp_path / "a" / "b", CONFIG)
    open_workdir(tmp_path / "a" / "b", CONFIG)
    assert json.loads((tmp_path / "a" / "b" / "config.json").read_text()) == CONFIG


def test_where_and_how_it_runs_may_change(tmp_path):
    open_workdir(tmp_path, CONFIG)
    (tmp_path / "metrics.jsonl").touch()
    other = {**CONFIG, "mesh": {"data": 2}, "sharding": "fsdp", "data": {"workers": 4, "crop": [64, 64]}, "train": {"steps": 10, "keep": 1}}
    assert difference(CONFIG, other) == []
    open_workdir(tmp_path, other)
    assert json.loads((tmp_path / "config.json").read_text())["data"]["workers"] == 0, "not before the run goes on"
    renew_config(tmp_path, other)
    assert json.loads((tmp_path / "config.json").read_text())["data"]["workers"] == 4


def test_what_it_computes_may_not(tmp_path):
    open_workdir(tmp_path, CONFIG)
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(UserError, match=r"another config[^\0]*data\.crop: \[64, 64\] -> \[32, 32\][^\0]*lr: '\(unset\)' -> 1"):
        open_workdir(tmp_path, {**CONFIG, "data": {"workers": 0, "crop": [32, 32]}, "lr": 1})
    assert json.loads((tmp_path / "config.json").read_text()) == CONFIG


def test_moved_data_and_weights_go_on_and_what_lies_there_counts(tmp_path):
    def config(weights, root, source=None, split="train"):
        entry = {"name": "gtav", "split": split, **({"source": source} if source else {})}
        data = {"root": root, "train": [entry], "crop": [64, 64]}
        return {**CONFIG, "backbone": {"weights": weights}, "data": data, "eval": {"domains": [entry]}}

    open_workdir(tmp_path, config("auto", "/data"))
    (tmp_path / "checkpoints").mkdir()
    open_workdir(tmp_path, config("/w/dinov2.pth", "/mnt/data", "/mnt/gta"))
    before, moved = ({"config": config(weights, root), "fingerprint": "f", "classes": ["road"], "frozen": "sha256:1"}
                     for weights, root in (("auto", ""), ("/w/dinov2.pth", "/mnt")))
    check_resume(before, moved)
    for key, words in (("frozen", "frozen weights are not"), ("fingerprint", "training data changed")):
        with pytest.raises(UserError, match=words):
            check_resume(before, {**moved, key: "other"})
    assert difference(config("auto", ""), config("random", "")) == ["backbone.weights: 'auto' -> 'random'"]
    assert len(difference(config("auto", ""), config("auto", "", split="val"))) == 1


def test_keys_that_a_newer_version_added_count_when_they_are_used():
    assert difference(CONFIG, {**CONFIG, "optim": {"backbone_lr": 1.0}}) == []
    assert difference(CONFIG, {**CONFIG, "optim": {"backbone_lr": 0.1}}) == ["optim.backbone_lr: '(unset)' -> 0.1"]


def test_foreign_folders_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"not a run \(thesis\.tex\)"):
        open_workdir(tmp_path, CONFIG)
    with pytest.raises(UserError, match="is a file"):
        open_workdir(tmp_path / "thesis.tex", CONFIG)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_log_files_of_a_launcher_are_no_reason_to_refuse(tmp_path):
    (tmp_path / "train.log").write_text("x")
    open_workdir(tmp_path, CONFIG)


def test_a_start_that_failed_does_not_bind_the_folder(tmp_path):
    open_workdir(tmp_path, CONFIG)
    with alone(tmp_path):  # the data were not found, say
        pass
    open_workdir(tmp_path, {**CONFIG, "seed": 1})
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 1


def test_two_trainings_in_one_folder_are_refused(tmp_path):
    with alone(tmp_path), pytest.raises(UserError, match="Another `rein train` is running"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


def test_damaged_lines_of_the_log_cost_no_others(tmp_path):
    rows = [{"step": 1, "kind": "train"}, {"step": 2, "kind": "train"}, {"step": 3, "kind": "train"}]
    first, *others = (json.dumps(row).encode() for row in rows)
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([first, b"xx\xff", b"[]", *others]))
    MetricLog(tmp_path, 2, tensorboard=False).close()
    assert read_metrics(tmp_path) == rows[:2]


def test_broken_config_json(tmp_path):
    (tmp_path / "config.json").write_text('{"seed": ')
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(UserError, match="config.json is damaged .*choose another --workdir"):
        open_workdir(tmp_path, CONFIG)

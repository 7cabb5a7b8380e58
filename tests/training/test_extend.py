"""Going on with a run in another way than before: longer, in another precision, from step 0, with a config.json that was lost or edited."""

import copy
import json
import os
import shutil

import numpy as np
import pytest
from run_train import evaluate
from stand_in import make_components

from rein_jax import configuration
from rein_jax.errors import UserError
from rein_jax.run import train as whole_run
from rein_jax.training.artifacts import ArtifactWriter
from rein_jax.training.guards import StepGuard
from rein_jax.training.loop import train
from rein_jax.training.metrics import read_metrics
from rein_jax.training.run_metadata import check_resume
from rein_jax.training.workdir import difference, open_workdir
from rein_jax.weights.modelfile import read_model

CONFIG = {"seed": 0, "train": {"steps": 4, "batch": 4, "log_every": 1, "checkpoint_every": 2, "tensorboard": False}}


def of(**changes):
    config = copy.deepcopy(CONFIG)
    for key, value in changes.items():
        config["train" if key in CONFIG["train"] else key] = {**config["train"], key: value} if key in CONFIG["train"] else value
    return config


def go(workdir, config=CONFIG, build=make_components, **ways):
    return train(config, workdir, build=build, evaluate=evaluate, **ways)


def trained(workdir):
    return [row["step"] for row in read_metrics(workdir) if row["kind"] == "train"]


def test_a_finished_run_is_extended(run, capfd):
    before = trained(run)
    results = go(run, of(steps=7), extend=True)
    assert results["steps"] == 7 and trained(run) == [*before, 5, 6, 7]
    said = capfd.readouterr()
    assert "resuming at step 4 of 7" in said.out and "was planned for 4 steps; the learning rate continues" in said.out
    assert json.loads((run / "config.json").read_text())["train"]["steps"] == 7
    assert read_model(run / "model.safetensors")[1]["step"] == 7
    assert [row["step"] for row in read_metrics(run) if row["kind"] == "eval"] == [4, 7]


def test_an_extension_that_was_interrupted_goes_on_with_and_without_the_option(run):
    """config.json says the new length, the newest checkpoint the old one."""
    def stop(config):
        components = make_components(config)
        components.batches = lambda *where: iter(())
        return components

    with pytest.raises((StopIteration, RuntimeError)):
        go(run, of(steps=6), build=stop, extend=True)
    again = shutil.copytree(run, run.parent / "again")
    assert go(run, of(steps=6))["steps"] == 6
    assert go(again, of(steps=6), extend=True)["steps"] == 6
    for name, array in read_model(run / "model.safetensors")[0].items():
        np.testing.assert_array_equal(array, read_model(again / "model.safetensors")[0][name], name)


def test_the_refusal_of_another_length_names_both_ways(run):
    with pytest.raises(UserError) as refused:
        go(run, of(steps=7))
    text = str(refused.value)
    assert "train.steps: 4 -> 7" in text and "--extend" in text and f"--config.init_from={run}" in text and "--restart" in text


@pytest.mark.parametrize("config, ways, words", [
    (of(steps=2), {"extend": True}, "--extend makes a run longer; .* train.steps=4, 2 was asked for"),
    (of(steps=7, seed=1), {"extend": True}, "seed: 0 -> 1"),
    (of(steps=7), {"extend": True, "restart": True}, "choose one of them"),
    (of(batch=8), {}, "train.batch: 4 -> 8[^\0]*--restart"),
])
def test_what_cannot_be_extended_is_refused_and_untouched(run, config, ways, words):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with pytest.raises(UserError, match=words):
        go(run, config, **ways)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_there_must_be_something_to_extend(tmp_path):
    with pytest.raises(UserError, match="no run in .* that could be extended"):
        go(tmp_path / "run", extend=True)


def test_the_advice_after_steps_that_are_not_finite_is_accepted(finished, tmp_path):
    """It named keys whose change was then refused."""
    guard = StepGuard(1, 4.0)
    with pytest.raises(UserError) as ended:
        guard.check(3, {"finite": 0.0, "row": 1.0, "loss": float("nan"), "grad_norm": 1.0}, ["a.png"])
    assert "--restart" in str(ended.value) and "--config.optim.lr" in str(ended.value) and "--config.precision=fp32" in str(ended.value)
    run = shutil.copytree(finished, tmp_path / "run")
    with pytest.raises(UserError, match=r"lr: '\(unset\)' -> 0\.01[^\0]*--restart"):
        go(run, of(lr=0.01))
    assert go(run, {**of(lr=0.01), "precision": "fp32"}, restart=True)["steps"] == 4
    assert (run / "restarted-1" / "model.safetensors").exists()


META = {"config": CONFIG, "fingerprint": "f", "classes": ["a"], "frozen": "x", "compute": "float32"}


def test_another_precision_is_refused_with_the_way_to_go_on():
    auto, here = {**META, "config": {**CONFIG, "precision": "auto"}}, {**META, "config": {**CONFIG, "precision": "auto"}}
    check_resume(auto, here)
    with pytest.raises(UserError, match=r"computed in float32 until now and would continue in bfloat16 .* --config\.precision=fp32"):
        check_resume(auto, {**here, "compute": "bfloat16"})
    with pytest.raises(UserError, match=r"--config\.precision=bf16"):
        check_resume({**auto, "compute": "bfloat16"}, here)
    check_resume({key: value for key, value in auto.items() if key != "compute"}, {**here, "compute": "bfloat16"})  # an older version's


def test_the_way_out_of_another_precision_is_accepted():
    was = {**CONFIG, "precision": "auto"}
    assert difference(was, {**CONFIG, "precision": "fp32"}) == []  # what auto came to is compared with the checkpoint
    assert difference({**CONFIG, "precision": "bf16"}, {**CONFIG, "precision": "fp32"}) == ["precision: 'bf16' -> 'fp32'"]
    check_resume({**META, "config": was}, {**META, "config": {**CONFIG, "precision": "fp32"}})


@pytest.mark.parametrize("text", ["{}", "[]", "null", '"text"', "3", "", "{", "\x00\xff", '{"train": 3}', '{"train": []}'])
def test_an_odd_config_json_is_one_sentence(run, text):
    (run / "config.json").write_bytes(text.encode("latin1"))
    with pytest.raises(UserError, match=r"config\.json .*restore it, choose another --workdir, or remove it") as refused:
        go(run)
    assert "\n" not in str(refused.value) and (run / "config.json").read_bytes() == text.encode("latin1")


def test_a_deleted_config_json_is_written_again_when_the_checkpoints_agree(run, capfd):
    before = (run / "config.json").read_bytes()
    (run / "config.json").unlink()
    with pytest.raises(UserError, match=r"checkpoint belongs to another config[^\0]*seed: 0 -> 1"):
        go(run, of(seed=1))
    with pytest.raises(UserError, match="train.steps: 4 -> 9"):
        go(run, of(steps=9))
    assert not (run / "config.json").exists()
    assert go(run)["steps"] == 4
    assert (run / "config.json").read_bytes() == before


def test_a_deleted_config_json_without_checkpoints_is_refused(run):
    (run / "config.json").unlink()
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UserError, match=r"has lost its config\.json; restore it"):
        go(run)


def test_a_fifo_as_config_json_does_not_hold_the_command_up(run):
    (run / "config.json").unlink()
    os.mkfifo(run / "config.json")
    with pytest.raises(UserError, match="config.json is not a regular file"):
        open_workdir(run, CONFIG)


@pytest.mark.parametrize("text", ["{}", "null", "[]", '{"step": 4}', '{"step": "4", "mIoU": "0.5"}', '{"step": 4, "mIoU": null}', "{"])
def test_an_odd_best_json_is_made_up_for_from_the_best_model(run, text):
    said = []
    outputs = ArtifactWriter(run, None, {}, {}, None, None, say=said.append)
    good = outputs.best()
    assert good["step"] == 4 and not said
    (run / "best.json").write_text(text)
    assert outputs.best() == good and "best.json" in said[0] and "best.safetensors says step 4" in said[0]
    (run / "best.safetensors").write_bytes(b"x")
    assert outputs.best() is None and "chosen anew" in said[1]


def test_an_odd_best_json_ends_no_run(run):
    (run / "best.json").write_text("{}")
    assert go(run)["steps"] == 4
    assert json.loads((run / "results.json").read_text())["best"]["step"] == 4


@pytest.mark.parametrize("change, words", [
    (lambda plain: {}, "has no section 'backbone'"),
    (lambda plain: {**plain, "train": 3}, "'train' is 3; it must be a section"),
    (lambda plain: {**plain, "data": {**plain["data"], "crop": "32"}}, r"config\.data\.crop is '32'; it must be a list of 2 values"),
    (lambda plain: {**plain, "train": {**plain["train"], "steps": "9"}}, "train.steps is '9'; it must be of type int"),
    (lambda plain: {**plain, "train": {**plain["train"], "ema": True}}, "train.ema is True; it must be of type float"),
])
def test_a_config_json_edited_by_hand_is_refused_by_key(tmp_path, change, words):
    """As the config of a new run; the folder is not touched."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(change(json.loads(configuration.to_json(configuration.load("quickstart"))))))
    with pytest.raises(UserError, match=words):
        whole_run(configuration.load(str(path)), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("name", ["config.py", "config.json"])
def test_a_fifo_as_config_is_refused(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match="is not a regular file"):
        configuration.load(str(tmp_path / name))

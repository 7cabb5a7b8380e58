"""The commands: options from the run's config, domains, refusals, files written."""

import json

import numpy as np
import pytest
from fakes import NAMES, PALETTE, FakeModel, FakeSource
from ml_collections import ConfigDict

from data_pipelines.labels import ClassInfo
from rein_jax import datasets, trees
from rein_jax.bench.evaluate import main as bench
from rein_jax.cli import evaluate as command
from rein_jax.errors import UserError
from rein_jax.evaluation import eval_model
from rein_jax.weights.modelfile import write_model


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder whose model is the fake one, and data sets that are fake ones; `run.entries` is what was opened."""
    folder = tmp_path / "run"
    folder.mkdir()
    config = {"eval": {"domains": [{"name": "camvid", "split": "val"}], "protocol": "fit-64x64", "mode": "slide", "crop": 32, "stride": 21,
                       "batch": 2}, "data": {"root": ""}, "precision": "fp32"}
    (folder / "config.json").write_text(json.dumps(config))
    entries = []

    def open_entry(entry, root=""):
        entries.append(dict(entry))
        return FakeSource(3, domain=entry["name"])

    def open_model(path):
        module_def, _, params = trees.split(FakeModel(run.seed), ())
        return (module_def, params), {"name": "run", "path": str(path), "identity": eval_model.identity(params)}

    run = ConfigDict({"folder": str(folder), "seed": 0})
    monkeypatch.setattr(datasets, "open_entry", open_entry)
    monkeypatch.setattr(eval_model, "open_model", open_model)
    monkeypatch.setattr(command, "run_config", lambda model: ConfigDict(json.loads((folder / "config.json").read_text())))
    return folder, entries, run


def test_evaluate_takes_the_runs_own_settings_and_writes_a_report(run, capsys):
    folder, entries, _ = run
    assert command.main([str(folder)]) == 0
    out, err = capsys.readouterr()
    assert "fit-64x64, slide 32 stride 21" in out and str(folder / "eval" / "fit-64x64-slide32-21" / "report.html") in err
    assert (folder / "eval" / "fit-64x64-slide32-21" / "results.json").is_file() and entries == [{"name": "camvid", "split": "val"}]


def test_options_of_the_command_line_come_first(run, tmp_path, capsys):
    folder, entries, _ = run
    arguments = ["--domain", "camvid:split=day_test,label=day", "--domain", "acdc:condition=night,reference=true,subset=1/2"]
    assert command.main([str(folder), *arguments, "--crop", "48", "--mode", "slide", "--flip", "--scales", "1", "1.5", "--boundary",
                         "--no-report", "--save-predictions", "--out", str(tmp_path / "out"), "--table", "csv"]) == 0
    assert entries == [{"name": "camvid", "split": "day_test", "label": "day"},
                       {"name": "acdc", "split": "val", "condition": "night", "reference": True, "subset": "1/2"}]
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].startswith("domain,images,mIoU") and rows[1].startswith("day,3,") and "day/fog" in rows[2]
    assert "slide 48 stride 32, scales 1, 1.5, with flip" in rows[1]
    written = tmp_path / "out" / "predictions"
    assert len(list((written / "acdc").rglob("*.png"))) == 3 and not (tmp_path / "out" / "report.html").exists()
    assert command.main(["--predictions", str(written / "day"), "--domain", "camvid:split=all", "--no-report"]) == 0
    assert "predictions read from files" in capsys.readouterr().out


def test_results_of_another_model_are_not_overwritten(run):
    folder, _, settings = run
    command.main([str(folder), "--no-report"])
    before = (folder / "eval" / "fit-64x64-slide32-21" / "results.json").read_text()
    settings.seed = 1
    with pytest.raises(UserError, match="holds results of another model"):
        command.main([str(folder), "--no-report"])
    assert (folder / "eval" / "fit-64x64-slide32-21" / "results.json").read_text() == before
    assert command.main([str(folder), "--no-report", "--overwrite"]) == 0
    assert (folder / "eval" / "fit-64x64-slide32-21" / "results.json").read_text() != before


@pytest.mark.parametrize(("arguments", "sentence"), [
    ([], "Name either a run folder or model file, or a folder of --predictions"),
    (["RUN", "--predictions", "x"], "Name either"),
    (["RUN", "--domain", "camvid:dusk"], "'dusk' is not KEY=VALUE"),
    (["RUN", "--domain", "camvid:label=a", "--domain", "camvid:label=a"], "Two domains are called 'a'"),
    (["--predictions", "/nothing/here", "--domain", "camvid"], "is not a folder"),
    (["RUN", "--stride", "64"], "stride must be between 1 and the window"),
])
def test_wrong_usage_is_one_sentence(run, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        command.main([str(run[0]) if a == "RUN" else a for a in arguments])


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        command.main([str(tmp_path / "no"), "--domain", "camvid"])
    with pytest.raises(UserError, match="holds no model.safetensors"):
        eval_model.open_model(tmp_path)


def test_bench_reports_speed_waiting_and_memory(monkeypatch):
    monkeypatch.setattr("rein_jax.bench.evaluate.SIZE", (64, 128))
    found = bench(["--images", "2", "--windows", "32/32", "--batch", "1"])
    line = json.loads(json.dumps(found))["slide 32/32"]
    assert line["images"] == 2 and line["images_per_second"] > 0 and 0 <= line["data_wait"] <= 1 and line["memory_mb"]["end"] >= 0


def test_a_model_file_away_from_its_run_brings_its_own_protocol(tmp_path, monkeypatch):
    def written(name, **meta):
        (tmp_path / name).mkdir()
        write_model(tmp_path / name / "model.safetensors", {"head/bias": np.zeros(1, np.float32)}, meta)
        return tmp_path / name / "model.safetensors"

    own = {"protocol": "official-512", "mode": "slide", "crop": (512, 1024), "stride": 300, "domains": [{"name": "camvid", "split": "val"}]}
    config = {"eval": own, "data": {"root": "/nothing/here"}, "precision": "fp32"}
    given = command.parser().parse_args(["run"])
    for path in (file := written("alone", config=config), file.parent):
        found = command.run_config(path)
        assert command.measure_options(given, found) == {"protocol": "official-512", "mode": "slide", "crop": (512, 1024), "stride": 300,
                                                         "batch": 4, "precision": "fp32"}
        assert found.data.root == "" and found.eval.domains[0]["name"] == "camvid"  # the folder of another machine
    config["data"]["root"] = str(tmp_path)
    assert command.run_config(written("here", config=config)).data.root == str(tmp_path)
    (file.parent / "config.json").write_text(json.dumps({"eval": {**own, "protocol": "full"}}))
    assert command.run_config(file).eval.protocol == "full"
    roots = []
    monkeypatch.setattr(datasets, "open_entry", lambda entry, root="": roots.append(root) or FakeSource(1))
    bare = command.run_config(written("bare", config={"head": {}}))
    assert command.measure_options(given, bare)["protocol"] == "full" and command.open_domains(["camvid"], bare) and roots == [""]
    with pytest.raises(UserError, match="No data set is named"):
        command.open_domains([], bare)


def test_fake_classes_are_those_of_the_model():
    assert FakeModel().classes == ClassInfo(NAMES, PALETTE)


def test_a_comma_inside_a_domains_value(run, capsys):
    folder, entries, _ = run
    assert command.parse_domain(r"camvid:source=/a\,b/c,split=val,label=x") == {
        "name": "camvid", "source": "/a,b/c", "split": "val", "label": "x"}
    with pytest.raises(UserError, match=r"'b/c' is not KEY=VALUE; a comma inside a value is written"):
        command.parse_domain("camvid:source=/a,b/c")


def test_a_label_cannot_steer_the_terminal(run, capsys):
    folder, _, _ = run
    assert command.main([str(folder), "--domain", "camvid:label=\x1b]0;owned\x07", "--no-report"]) == 0
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err and r"\x1b]0;owned\x07" in printed.out

"""RESULTS.md is what its template makes of the recorded numbers, and each of its tables has a command that repeats it."""

import importlib.util
import json
import shlex
import sys
from pathlib import Path

import pytest

from rein_jax import configuration
from rein_jax.cli.sweep import parser
from rein_jax.experiments import sweep

FOLDER = Path(__file__).parents[2] / "benchmarks" / "generalisation"


def script(name, monkeypatch):
    """A module of the evidence's folder; what it adds to sys.path and sys.modules is undone after the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for other in ("collect", "results_page"):
        monkeypatch.setitem(sys.modules, other, None)
        del sys.modules[other]
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def results():
    return json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))


def test_the_page_is_what_the_template_makes_of_the_recorded_numbers(monkeypatch):
    collect = script("collect", monkeypatch)
    assert collect.text(results()) == (FOLDER / "RESULTS.md").read_text(encoding="utf-8")
    assert collect.as_json(results()) == (FOLDER / "results.json").read_text(encoding="utf-8")


def test_other_numbers_give_another_text(monkeypatch):
    collect, found = script("collect", monkeypatch), results()
    before = collect.text(found)
    for run in found["runs"]:
        if (run["task"], run["method"], run["steps"], run["queries"]) == ("camvid", "rein", 2000, "spread"):
            run["domains"] = {name: value + 0.1 for name, value in run["domains"].items()}
    assert "| CamVid | 40.4 ± 0.8 | 39.6 | 45.3 ± 0.4 |" in before and "| CamVid | 40.4 ± 0.8 | 39.6 | 45.4 ± 0.4 |" in collect.text(found)


def test_a_sentence_that_is_no_longer_true_is_named(monkeypatch):
    collect, found = script("collect", monkeypatch), results()
    for comparison in found["comparisons"]:
        if comparison["rein_minus"] == "freeze":
            comparison["value"] = -1.0
    with pytest.raises(ValueError, match="no longer true: 'Rein is better than the frozen backbone'"):
        collect.text(found)


def test_what_the_template_asks_is_what_was_recorded(monkeypatch):
    page = script("results_page", monkeypatch)
    run = {"task": "camvid", "method": "rein", "steps": 2000, "head": "mask2former", "setup": "", "augment": "none", "queries": "spread"}
    runs = [{**run, "seed": seed, "domains": {"a": value}, "curves": {"a": [[10, value]]}} for seed, value in ((1, 40.0), (0, 42.0))]
    comparison = {"rein_minus": "freeze", "task": "camvid", "steps": 2000, "head": "mask2former", "setup": "", "seed": 0, "value": 6.05,
                  "low": -0.5, "high": 7.0}
    first = lambda run: run["domains"]["a"]
    evidence = page.Evidence({"runs": runs, "comparisons": [comparison]}, first, lambda run: first(run) / 2)
    assert evidence.unseen("camvid", "rein") == [42.0, 40.0] and evidence.unseen("camvid", "rein", seed=1) == [40.0]
    assert evidence.domain("a", "camvid", "rein") == evidence.curve("a", 10, "camvid", "rein") == 41 == 2 * evidence.fit("camvid", "rein")
    assert page.spread([42.0, 40.0]) == "41.0 ± 1.4" and page.spread([42.0]) == "42.0"
    assert page.interval(comparison) == "6.0 (-0.5 to 7.0)" and page.interval(comparison, -1) == "-6.0 (-7.0 to 0.5)"
    for absent in (lambda: evidence.unseen("camvid", "rein", queries="official"), lambda: evidence.against("freeze", "streets")):
        with pytest.raises(LookupError, match="results.json has no"):
            absent()


def test_one_command_repeats_each_table(monkeypatch, tmp_path):
    repeat = script("repeat", monkeypatch)
    made = {title: {key for line in lines for key in identities(line, repeat, tmp_path)} for title, lines in repeat.TABLES.items()}
    for entry in results()["runs"]:
        title = repeat.collect.title(*(entry[key] for key in ("task", "head", "steps", "setup")))
        assert title in made
        assert repeat.collect.identity(entry) in made[title]


def test_a_rehearsal_makes_the_same_runs_short(monkeypatch, tmp_path):
    repeat = script("repeat", monkeypatch)
    for line in {line for lines in repeat.TABLES.values() for line in lines}:
        for whole, short in zip(configs(line, repeat, tmp_path), configs(repeat.rehearsal(line), repeat, tmp_path), strict=True):
            assert short["train"]["steps"] == 2
            assert all(d.get("length") == 1 or d.get("subset") == "1/200" for d in short["eval"]["domains"])
            for section, key in (("train", "steps"), ("train", "eval_every"), ("optim", "warmup_steps"), ("optim", "backbone_warmup")):
                short[section][key] = whole[section][key]
            short["eval"]["domains"] = whole["eval"]["domains"]
            assert short == whole


def test_collected_runs_can_go_into_a_folder_of_their_own(monkeypatch, tmp_path):
    collect = script("collect", monkeypatch)
    monkeypatch.setattr(collect.runs, "find", lambda folders: ([], []))
    assert collect.main([str(tmp_path), "--into", str(tmp_path / "own")]) == 0
    assert sorted(file.name for file in (tmp_path / "own").iterdir()) == ["RESULTS.md", "results.json"]


def configs(line, repeat, folder):
    """The configs of the runs of a line."""
    arguments, *rest = shlex.split(line)
    overrides, rest = configuration.split_overrides([f"{repeat.CONFIG}:{arguments}", *rest])
    given = parser().parse_args(rest)
    for member in sweep.members(given.config, sweep.axes(given.grid, given.config), overrides, folder):
        yield json.loads(configuration.to_json(member.load()))


def identities(line, repeat, folder):
    """What tells the runs of a line from others, as the collected results have it: once for each task a run answers."""
    for config in configs(line, repeat, folder):
        tasks = ["transfer"] if any(entry["name"] == "camvid" for entry in config["eval"]["domains"]) else []
        for task in ["camvid"] if config["data"]["train"][0]["name"] == "camvid" else ["streets", *tasks]:
            yield repeat.collect.identity({"task": task, **repeat.collect.settings(config), "seed": config["seed"]})

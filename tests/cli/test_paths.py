"""Addresses of stores are refused wherever a path can be given; `~` and `--option=~/x` mean the home folder in every command."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipelines import cache, open_source
from data_pipelines.errors import DataError
from data_pipelines.paths import local_path
from rein_jax import configuration
from rein_jax.cli import COMMANDS, path_argument
from rein_jax.cli.main import main
from rein_jax.errors import UserError
from rein_jax.registry import resolve

STORES = ("gs://bucket/run", "gs:/bucket/run", "s3://bucket/run", "s3a://bucket/x", "hdfs://x", "hdfs:///x", "az://c/x", "file:///tmp/x",
          "https://example.org/x", "host:/srv/data", "me@host.example:/srv", "dbfs:/mnt/x")
# Options and arguments that take text and are no paths. A new one belongs here, or gets type=path_argument.
TEXTS = {"train": {"config", "profile", "coordinator"}, "evaluate": {"domain", "protocol", "corruptions"},
         "predict": {"save", "ids", "protocol"}, "params": {"what", "list"}, "convert": {"config", "part"}, "sweep": {"config", "grid"},
         "plan": {"config", "topology"}, "submit": {"split"}, "serve": {"host"}, "export": {"size", "resize", "slide", "stride"},
         "weights get": {"name"}, "weights verify": {"name"}, "data list": {"name"}, "data check": {"name", "split", "option"},
         "prepare": {"name", "split", "option", "beam"}}


def parsers(name: str, parse: argparse.ArgumentParser):
    """(words of the command, parser) of a command, or of each of its actions."""
    below = [action for action in parse._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        return [(name, parse)]
    return [pair for word, inner in below[0].choices.items() for pair in parsers(f"{name} {word}", inner)]


def every_option():
    """(command, its parser, action) for whatever takes a value that is neither a number nor one of a few words."""
    for name, target in COMMANDS.items():
        make = getattr(sys.modules.get(target.partition(":")[0]) or __import__(target.partition(":")[0], fromlist=["x"]), "parser", None)
        for words, parse in parsers(name, make()) if make else ():
            for action in parse._actions:
                if action.nargs != 0 and action.choices is None and action.type in (None, str, Path, path_argument):
                    yield words, parse, action


def line(words: str, parse: argparse.ArgumentParser, chosen: argparse.Action, value: str) -> list[str]:
    """A command line in which the chosen option has the value and all that must be there is there."""
    flags, places = [], []
    for action in parse._actions:
        given = value if action is chosen else (list(action.choices)[0] if action.choices else "1")
        if action.option_strings and (action is chosen or action.required):
            flags.append(f"{action.option_strings[-1]}={given}" if action.nargs is None else action.option_strings[-1])
            flags += [] if action.nargs is None else [given] * (action.nargs if isinstance(action.nargs, int) else 1)
        elif not action.option_strings and (action is chosen or action.nargs not in ("?", "*")):
            places.append(given)
    return [*words.split(), *places, *flags]


@pytest.mark.parametrize("words, parse, action", [pytest.param(*found, id=f"{found[0]} {found[2].dest}") for found in every_option()])
def test_every_path_option_refuses_stores(words, parse, action, tmp_path, monkeypatch, capsys):
    if action.dest in TEXTS.get(words, ()):
        assert action.type is not path_argument
        return
    assert action.type is path_argument, f"rein {words} {action.dest} takes a path, or belongs into TEXTS"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REIN_CACHE", str(tmp_path / "cache"))
    for value in STORES:
        with pytest.raises(SystemExit) as ended:
            main(line(words, parse, action, value))
        message = capsys.readouterr().err
        assert ended.value.code == 2 and f"{value} is not a path on this machine" in message, message
    assert not [name for name in os.listdir(tmp_path) if name != "cache"]


@pytest.mark.parametrize("argv", [
    ["train", "--config", "gs://b/config.json", "--workdir", "w"],
    ["train", "--config", "gs://b/config.py", "--workdir", "w"],
    ["train", "--config", "configs/quickstart.py", "--workdir", "w", "--config.data.cache=gs://b/cache"],
    ["train", "--config", "configs/quickstart.py", "--workdir", "w", "--config.data.root=s3://b/data"],
    ["train", "--config", "configs/quickstart.py", "--workdir", "w", "--config.backbone.weights=gs://b/dinov2.pth"],
    ["train", "--config", "configs/quickstart.py", "--workdir", "w", "--config.init_from=hdfs://b/run"],
    ["train", "--config", "configs/quickstart.py", "--workdir", "w", "--config.data.train.0.source=gs:/b/data"],
    ["train", "--config", "configs/folder.py:source=gs://b/photos", "--workdir", "w"],
    ["plan", "s3://b/config.json", "--topology", "cpu:1"], ["params", "gs://b/config.json"],
    ["matrix", "gs://b/config.py", "--grid", "seed=0,1"], ["matrix", "configs/quickstart.py", "--grid", "data.cache=gs://b/c"],
    ["evaluate", "--predictions", ".", "--domain", "camvid:source=gs://b/camvid"],
    ["data", "check", "folder", "--source", ".", "--option", "classes=s3://b/names.txt"],
    ["bench", "step", "--out", "gs://b/step.json"], ["bench", "step", "--out=gs://b/step.json"],
    ["bench", "step", "--config", "gs://b/c.py"],
    ["bench", "weights", "--folder", "gs://b"], ["bench", "infer", "--model", "gs://b/model.safetensors"],
])  # fmt: skip
def test_configs_data_sets_and_benchmarks_refuse_stores(argv, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("rein_jax.bench.weights.write", lambda *a: pytest.fail("written"))
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for i in range(2):
            cv2.imwrite(str(tmp_path / name / f"{i}.png"), np.zeros((8, 8), np.uint8))
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    message = capsys.readouterr().err
    assert "is not a path on this machine" in message and message.count("\n") == 1, message
    assert sorted(os.listdir(tmp_path)) == ["images", "masks"]


@pytest.mark.parametrize("variable, argv", [
    ("REIN_DATA", ["data", "check", "camvid"]), ("REIN_CACHE", ["weights", "list"]),
    ("XDG_CACHE_HOME", ["weights", "get", "dinov2_vits14"]),
])  # fmt: skip
def test_variables_of_the_environment_refuse_stores(variable, argv, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REIN_CACHE", raising=False)
    monkeypatch.setenv(variable, "gs://bucket/x")
    assert main(argv) == 2
    assert "gs://bucket/x is not a path on this machine" in capsys.readouterr().err and not os.listdir(tmp_path)


def test_functions_refuse_stores(tmp_path, monkeypatch):
    import rein_jax
    from rein_jax.evaluation.evaluator import evaluate_files
    from rein_jax.export import stablehlo
    from rein_jax.predict import predict_files
    from rein_jax.reporting.report import write_report
    from rein_jax.run import train
    from rein_jax.weights.checkpoint import read_checkpoint

    monkeypatch.chdir(tmp_path)
    config = configuration.load("configs/quickstart.py")
    address = Path("gs://bucket/x")  # pathlib has made gs:/bucket/x of it
    for call in (lambda: train(config, address), lambda: rein_jax.load(address), lambda: predict_files("m", ["x.png"], address),
                 lambda: evaluate_files(address, {}), lambda: write_report(address), lambda: read_checkpoint(address),
                 lambda: open_source("camvid", source=address), lambda: stablehlo.read(address),
                 lambda: cache.Cached(open_source("streets", length=1), address)):
        with pytest.raises((UserError, DataError), match="gs:/bucket/x is not a path on this machine|There is no domain"):
            call()
    assert not os.listdir(tmp_path)


def test_what_local_paths_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/x") == tmp_path / "x" and local_path("C:/x") == Path("C:/x") and local_path("2024-01-01T10:00:00/x.jpg")
    (tmp_path / "gs:").mkdir()
    really = local_path("./gs:/x")
    assert really == tmp_path / "gs:/x" == local_path(really)
    for bad, word in (("", "empty path"), ("a\0b", "zero byte"), ("~nobody-of-that-name/x", "~nobody-of-that-name is not a user")):
        with pytest.raises(DataError, match=word):
            local_path(bad)


def test_one_place_makes_paths_of_what_is_given():
    """Nowhere is an option of a command or a script turned into a path by another function."""
    root = Path(__file__).parents[2]
    for folder in ("rein_jax", "data_pipelines", "scripts", "benchmarks"):
        for file in (root / folder).rglob("*.py"):
            found = [line for line in file.read_text(encoding="utf-8").splitlines() if "type=Path" in line or ".expanduser()" in line]
            allowed = {"paths.py": 1, "weights.py": 1, "loader_torch.py": 1}.get(file.name, 0)  # its own, and twins that others start
            assert len(found) <= allowed, (file, found)


def test_a_home_folder_in_every_form(tmp_path, monkeypatch, capsys):
    """A shell expands `--out ~/x` but not `--out=~/x` or a quoted one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for words, parse, action in every_option():
        if action.type is path_argument:
            given = vars(parse.parse_args(line(words, parse, action, "~/x")[len(words.split()):]))[action.dest]
            assert (given[0] if isinstance(given, list) else given) == tmp_path / "x", (words, action.dest)
    monkeypatch.chdir(tmp_path)
    assert main(["tables", "--table", "1", "--out=~/t.txt"]) == 0 and (tmp_path / "t.txt").is_file()


def test_python_dash_m(tmp_path):
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-m", "rein_jax", "--version"], capture_output=True, text=True, cwd=tmp_path,
                         env={**os.environ, "PYTHONPATH": str(root)}, check=True)
    assert ran.stdout.strip() == __import__("rein_jax").__version__
    assert resolve("rein_jax.__main__:main") is main

"""Every command as a user whom the machine does not know (containers), and on a disk that is full: one sentence, no traceback."""

import os
from pathlib import Path

import pytest

from rein_jax.bench import selfcheck
from rein_jax.cli import COMMANDS
from rein_jax.cli.main import main
from rein_jax.evaluation.predictions import write_prediction
from tests.use.test_predict_faults import Small

NOWHERE = "there-is-nothing"
# command -> (arguments, exit code, words of what it prints). What needs the cache says how to name one; all else works.
UNKNOWN = {
    "train": (["--config", "configs/quickstart.py", "--workdir", "run"], 2, "set REIN_CACHE"),
    "evaluate": (["MODEL", "--domain", "streets:style=night,length=1", "--out", "out", "--panels", "0"], 0, "mIoU"),
    "predict": (["MODEL", "IMAGE"], 0, "1 image ->"),
    "report": ([NOWHERE], 2, NOWHERE),
    "params": (["dinov2_vits14"], 0, "dinov2_vits14"),
    "weights": (["list"], 2, "set REIN_CACHE"),
    "convert": ([NOWHERE, "x.pth"], 2, NOWHERE),
    "data": (["list"], 0, "cityscapes"),
    "prepare": ([NOWHERE, "--out", "out"], 2, NOWHERE),
    "bench": ([NOWHERE], 2, "benchmark"),
    "tables": (["--table", "1"], 0, "mIoU"),
    "sweep": (["configs/quickstart.py", "--grid", "seed=0,1", "--commands"], 0, "seed=1"),
    "plan": ([NOWHERE, "--topology", "cpu:1"], 2, NOWHERE),
    "submit": (["acdc", NOWHERE, "--out", "x.zip"], 2, NOWHERE),
    "export": ([NOWHERE, "--to", "stablehlo", "--size", "64"], 2, NOWHERE),
    "serve": ([NOWHERE, "--port", "0"], 2, NOWHERE),
    "show": (["MODEL"], 0, "tiny-lora"),
    "diff": (["MODEL", "MODEL"], 0, "the same"),
    "doctor": (["--json"], 1, "Set REIN_CACHE"),
    "completion": (["bash"], 0, "complete"),
}


def test_every_command_is_walked():
    assert set(UNKNOWN) == set(COMMANDS)


@pytest.mark.parametrize("command", UNKNOWN)
def test_a_user_without_home_and_entry(command, model_file, folder, tmp_path, monkeypatch, capsys):
    for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "REIN_CACHE", "XDG_CACHE_HOME", "REIN_DATA", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: (_ for _ in ()).throw(KeyError(f"getpwuid(): uid not found: {uid}")))
    monkeypatch.setattr(selfcheck, "compute", lambda: selfcheck.STORED)  # doctor's training step has a test of its own
    monkeypatch.chdir(tmp_path)
    given, code, words = UNKNOWN[command]
    assert main([command, *({"MODEL": str(model_file), "IMAGE": str(folder / "0.png")}.get(a, a) for a in given)]) == code
    printed = capsys.readouterr()
    assert words in printed.out + printed.err
    assert not (tmp_path / "~").exists() and "JAX_COMPILATION_CACHE_DIR" not in os.environ
    if code == 2:
        assert len(printed.err.strip().splitlines()) == 1, printed.err


@pytest.fixture(scope="module")
def measured(model_file, tmp_path_factory):
    """A folder with results."""
    out = tmp_path_factory.mktemp("measured")
    assert main(["evaluate", str(model_file), "--domain", "streets:style=night,length=1", "--out", str(out), "--no-report"]) == 0
    return out


WRITERS = {
    "evaluate": ["MODEL", "--domain", "streets:style=night,length=1", "--out", "full"],
    "evaluate --predictions": ["--predictions", "given", "--domain", "streets:style=night,length=1", "--out", "full"],
    "report": ["MEASURED", "--out", "full/report.html"],
    "tables": ["--table", "1", "--out", "full/table.txt"],
    "export": ["MODEL", "--to", "stablehlo", "--size", "64", "--out", "full/model"],
    "convert": ["MODEL", "full/copy.safetensors"],
    "bench": ["infer", "--model", "MODEL", "--sizes", "64", "--batches", "1", "--calls", "1", "--out", "full/bench.json"],
    "train": ["--config", "configs/quickstart.py", "--workdir", "full/run"],
}


@pytest.mark.parametrize("command", WRITERS)
def test_a_full_disk_is_one_sentence(command, model_file, measured, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if command == "evaluate --predictions":
        from data_pipelines import open_source

        source = open_source("streets", style="night", split="val", length=1)
        write_prediction(tmp_path / "given", source[0]["name"], source[0]["label"] * 0)
    monkeypatch.setattr("rein_jax.bench.machine.commit", lambda: "")  # no other program shall meet the limit
    (tmp_path / "full").mkdir()
    given = [{"MODEL": str(model_file), "MEASURED": str(measured)}.get(a, a) for a in WRITERS[command]]
    with Small(64):
        code = main([command.split()[0], *given])
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2 and "full" in message and "File too large" in message, message
    assert not list(Path("full").glob("*.*")), "half a file"

"""`rein doctor`, `rein completion`, `rein bench`, and that every command explains itself."""

import json
import shutil
import subprocess

import pytest

from rein_jax.bench import BENCHES, selfcheck
from rein_jax.cli import COMMANDS
from rein_jax.cli.completion import script
from rein_jax.cli.main import main
from rein_jax.registry import resolve


def test_doctor_without_accelerator(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("REIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REIN_DATA", str(tmp_path))
    (tmp_path / "camvid").mkdir()
    assert main(["doctor", "--json"]) == 0
    rows = {row["title"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["devices"]["text"].startswith("cpu") and "rein_jax[gpu]" in rows["devices"]["mend"]
    assert rows["one training step"]["ok"] and "camvid" in rows["data"]["text"]
    assert not (tmp_path / "cache/weights").exists()


def test_wrong_numbers_are_noticed(capsys, monkeypatch):
    monkeypatch.setattr(selfcheck, "compute", lambda: {**selfcheck.STORED, "gradient": selfcheck.STORED["gradient"] * 1.01})
    assert main(["doctor"]) == 1
    assert "!!  one training step" in capsys.readouterr().out


def test_completion_scripts():
    for shell in ("bash", "zsh", "fish"):
        assert all(name in script(shell) for name in (*COMMANDS, "--watch" if shell != "fish" else "watch"))
    if shutil.which("bash"):
        ask = script("bash") + 'COMP_WORDS=(rein predict --wa); COMP_CWORD=2; _rein; echo "${COMPREPLY[@]}"'
        assert subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True).stdout.strip() == "--watch"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(name, capsys):
    try:
        resolve(COMMANDS[name])(["--help"])
    except SystemExit as end:
        assert end.code == 0
    text = capsys.readouterr().out
    assert "example" in text and f"rein {name}" in text


def test_bench_infer(model_file, tmp_path, capsys):
    out = tmp_path / "infer.json"
    assert main(["bench", "infer", "--model", str(model_file), "--sizes", "64", "--batches", "1", "--calls", "3", "--out", str(out)]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["64x64 batch 1"]["calls"] == 3 and line["64x64 batch 1"]["p99_ms"] >= line["64x64 batch 1"]["p50_ms"] > 0
    written = json.loads(out.read_text())
    assert written["result"] == line and {"machine", "versions", "commit", "command"} <= written.keys()
    assert main(["bench", "nothing"]) == 2 and "Known" in capsys.readouterr().err
    assert "infer" in BENCHES

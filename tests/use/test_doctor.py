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
    assert rows["devices"]["text"].startswith("cpu") and "rein_jax[gpu]" in rows["devices"]["fix"]
    assert rows["one training step"]["ok"] and "camvid" in rows["data"]["text"]
    assert not (tmp_path / "cache/weights").exists()


def test_wrong_numbers_are_noticed(capsys, monkeypatch):
    monkeypatch.setattr(selfcheck, "compute", lambda: {**selfcheck.STORED, "gradient": selfcheck.STORED["gradient"] * 1.01})
    assert main(["doctor"]) == 1
    assert "!!  one training step" in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell, tmp_path):
    made = script(shell)
    assert all(name in made for name in (*COMMANDS, *BENCHES, "watch", "markdown"))
    if shutil.which(shell):
        (tmp_path / "script").write_text(made)
        assert subprocess.run([shell, "-n", str(tmp_path / "script")], capture_output=True).returncode == 0


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_what_bash_completes(tmp_path):
    """Commands, options, their values, and paths; the name of a file is never run."""
    names = ["a$(touch hacked).py", "b`touch hacked`.py", "c; touch hacked"]
    for name in names:
        (tmp_path / name).touch()
    asked = [("pre",), ("predict", "--wa"), ("report", "--table", "m"), ("completion", ""), ("bench", "lo"), ("weights", "g"),
             ("train", "--config", ""), ("report", "")]
    lines = [script("bash"), f"cd '{tmp_path}'"]
    for words in asked:
        given = " ".join(f"'{word}'" for word in ("rein", *words))
        lines += [f"COMP_WORDS=({given}); COMP_CWORD={len(words)}; COMPREPLY=(); _shtab_rein; (IFS=\"|\"; echo \"${{COMPREPLY[*]}}\")"]
    out = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=True).stdout.splitlines()
    files = "|".join(names)
    assert [sorted(line.split("|")) for line in out] == [sorted(line.split("|")) for line in (
        "predict|prepare", "--watch", "markdown", "bash|zsh|fish", "loader", "get", files, files)]
    assert not (tmp_path / "hacked").exists()


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

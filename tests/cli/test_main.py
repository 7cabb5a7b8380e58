"""What `rein` answers when the place to write, or the reader of what it prints, is gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rein_jax import registry
from rein_jax.cli.main import main


@pytest.mark.parametrize("command, code", [("train", 75), ("show", 0)])
def test_a_reader_that_goes_away(monkeypatch, command, code):
    """A training did not end well because nobody listens; what only prints did."""

    def broken(argv):
        raise BrokenPipeError

    monkeypatch.setattr(registry, "load", lambda *a: broken)
    monkeypatch.setattr(os, "dup2", lambda *a: None)
    with open(os.devnull, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        monkeypatch.setattr(os, "open", lambda *a: gone.fileno())
        assert main([command]) == code


def test_a_place_that_cannot_be_written(capsys, monkeypatch):
    monkeypatch.setattr(registry, "load", lambda *a: lambda argv: open("/proc/foo/x", "w"))
    assert main(["tables"]) == 2
    assert "rein tables: /proc/foo/x: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [
    ["evaluate", "run", "--crop", "0"], ["evaluate", "run", "--threads", "0"], ["predict", "run", "x.png", "--batch", "-1"],
    ["report", "run", "--images", "x"], ["plan", "configs/quickstart.py", "--topology", "cpu:1", "--batch", "0"],
])
def test_numbers_that_count_nothing_are_refused(argv, capsys):
    """A crop of 0 was once taken for "not given"."""
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2 and "must be a whole number of at least" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [
    ["predict", "run", "x.png", "--scales", "1", "nan"], ["predict", "run", "x.png", "--max-megapixels", "-1"],
    ["predict", "run", "--watch", ".", "--idle-exit", "0"], ["evaluate", "run", "--scales", "inf"],
    ["serve", "run", "--max-megabytes", "0"], ["serve", "run", "--max-megapixels", "much"],
])
def test_amounts_that_are_none_are_refused(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2 and "must be a number above 0" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--batch", "--queue", "--side", "--port"])
def test_serve_counts_from_one(option, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["serve", "run", option, "-1"])
    assert ended.value.code == 2 and "must be a whole number of at least" in capsys.readouterr().err
    assert main(["serve", "run", "--port", "70000"]) == 2 and "between 0 and 65535" in capsys.readouterr().err


@pytest.mark.parametrize("command, file", [
    ("tables", "results.json"), ("tables", "config.json"), ("report", "results.json"), ("diff", "config.json"), ("diff", "results.json"),
])
@pytest.mark.parametrize("content", [b'{"domains": ', b"\xff\xfe", b"[1, 2]"])
def test_a_damaged_file_of_a_run_is_named(command, file, content, tmp_path, capsys):
    run, other = tmp_path / "run", tmp_path / "other"
    for folder in (run, other):
        folder.mkdir()
        (folder / "config.json").write_text('{"seed": 0}')
        (folder / "results.json").write_text('{"evaluation": {"domains": {"town": {"mIoU": 1.0}}}}')
    (run / file).write_bytes(content)
    assert main([command, str(run), *([str(other)] if command == "diff" else [])]) == 2
    message = capsys.readouterr().err
    assert str(run / file) in message and ("is damaged" in message or "not an object" in message)


def test_help_is_quick():
    """No command's --help waits for JAX and what comes with it."""
    program = """if True:
        import contextlib, io, sys
        from rein_jax.cli import COMMANDS
        from rein_jax.cli.main import main
        for name in ["--help", *COMMANDS]:
            if name == "params":  # its file is all about shapes
                continue
            with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
                main([name, "--help"])
            heavy = {"jax", "flax", "grain", "fastapi", "orbax"} & set(sys.modules)
            assert not heavy, (name, heavy)
    """
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, env=environment)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("redirect, code", [("> /dev/full", 2), (">&-", 0), ("2>&-", 0), (">&- 2>&-", 0)])
def test_output_that_goes_nowhere(redirect, code):
    """`rein data list > FILE` on a full disk says so; closed outputs are no reason to fail."""
    root = Path(__file__).parents[2]
    ran = subprocess.run(["bash", "-c", f"exec {sys.executable} -m rein_jax data list {redirect}"], capture_output=True, text=True,
                         cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    assert ran.returncode == code
    if code:
        assert ran.stderr.startswith("rein data: No space left on device;") and ran.stderr.count("\n") == 1
    else:
        assert "Error" not in ran.stderr


def test_earlier_names_of_commands_still_work(capsys):
    from rein_jax.bench import ALIASES as BENCH_ALIASES
    from rein_jax.bench import BENCHES
    from rein_jax.cli import ALIASES, COMMANDS

    assert ALIASES["matrix"] == "sweep" and set(ALIASES.values()) <= set(COMMANDS) and set(BENCH_ALIASES.values()) <= set(BENCHES)
    for argv in (["matrix", "--help"], ["bench", "twin", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(argv)
        assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "usage: rein sweep" in shown and "usage: rein bench torch" in shown

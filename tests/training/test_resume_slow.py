"""The long forms: killed again and again, also while saving; a disk that is really full."""

import json
import random
import shutil
import subprocess
import time

import pytest
from processes import finish, kill, run, start

CONFIG = {"seed": 5, "train": {"steps": 20, "batch": 8, "checkpoint_every": 1, "log_every": 1, "keep": 2, "tensorboard": False}}


@pytest.mark.slow
def test_killed_at_any_moment_again_and_again(tmp_path):
    text, draw = json.dumps(CONFIG), random.SystemRandom()
    code, output = run("run_train.py", str(tmp_path / "straight"), text)
    assert code == 0, output
    workdir = tmp_path / "run"
    for _ in range(8):
        child = start("run_train.py", str(workdir), text, SLOW="0.1")
        deadline = time.monotonic() + 60
        before = len((workdir / "metrics.jsonl").read_text()) if (workdir / "metrics.jsonl").exists() else 0
        while child.poll() is None and time.monotonic() < deadline:
            if (workdir / "metrics.jsonl").exists() and len((workdir / "metrics.jsonl").read_text()) != before:
                break
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.4))  # a save takes about this long: many of the kills fall into one
        kill(child)
        finish(child)
    code, resumed = run("run_train.py", str(workdir), text)
    assert code == 0, resumed
    assert resumed.splitlines()[-1] == output.splitlines()[-1]


@pytest.mark.slow
def test_full_disk_ends_with_one_sentence_and_goes_on_after_it_was_mended(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if shutil.which("mount") is None or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], check=False).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        code, output = run("run_train.py", str(disk / "run"), json.dumps(CONFIG), WIDTH="48")
        assert code == 2, output
        assert "could not be written" in output and "Traceback" not in output.split("USER ERROR")[0]
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        code, output = run("run_train.py", str(disk / "run"), json.dumps(CONFIG), WIDTH="48")
        assert code == 0, output
    finally:
        subprocess.run(["umount", disk], check=False)

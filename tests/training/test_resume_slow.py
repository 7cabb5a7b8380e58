"""The long forms: killed again and again, also while saving; a disk that is really full."""

import json
import random
import shutil
import signal
import subprocess

import pytest
from processes import run

CONFIG = {"seed": 5, "train": {"steps": 20, "batch": 8, "checkpoint_every": 1, "log_every": 1, "keep": 2, "tensorboard": False}}


@pytest.mark.slow
def test_killed_at_any_moment_again_and_again(tmp_path):
    """Each time before another file operation of the run (a step has about 50): in saves, in their clean-up, in the start after a kill."""
    text, draw = json.dumps(CONFIG), random.Random(0)
    code, output = run("run_train.py", str(tmp_path / "straight"), text)
    assert code == 0, output
    workdir = tmp_path / "run"
    for _ in range(8):
        code, killed = run("run_train.py", str(workdir), text, KILL_AT_FILE=str(draw.randrange(5, 110)))
        assert code == -signal.SIGKILL, killed
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

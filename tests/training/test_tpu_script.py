"""scripts/tpu_vm_train.sh with a stand-in for gcloud: which exit codes of the hosts start the run again."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "tpu_vm_train.sh"
GCLOUD = """#!/usr/bin/env bash
case "$*" in
  *" scp "*) ;;
  *"rein train"*) count=$(($(cat count) + 1)); echo $count >count; cat "answer$count" ;;
  *) echo rein-host; echo rein-host ;;
esac
"""


@pytest.mark.parametrize("answers, code", [
    (["rein-exit 0\nrein-exit 0"], 0),
    (["rein-exit 75\nrein-exit 75", "rein-exit 0\nrein-exit 0"], 0),
    (["connection refused", "rein-exit 134", "rein-exit 0\nrein-exit 0"], 0),  # without one host the other fails
    (["rein-exit 1\nrein-exit 134"], 1),
    (["rein-exit 75\nrein-exit 75", "rein-exit 137\nrein-exit 137"], 137),
    (["mistake\nrein-exit 2\nrein-exit 2"], 2),
    (["rein-exit 75\nrein-exit 75"] * 3, 75),
])
def test_only_a_preempted_run_is_started_again(tmp_path, answers, code):
    for name, text in (("gcloud", GCLOUD), ("git", "#!/bin/sh\n"), ("sleep", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "count").write_text("0")
    for number, answer in enumerate(answers, 1):
        (tmp_path / f"answer{number}").write_text(answer + "\n")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TPU": "slice", "ZONE": "z", "RESTARTS": "2"}
    done = subprocess.run(["bash", SCRIPT, "--config", "x"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, int((tmp_path / "count").read_text())) == (code, len(answers)), done.stderr

"""scripts/quickstart.sh: what it runs, and that its arguments reach `rein train` and nothing else."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_arguments_go_to_rein_train_and_not_to_the_set_up(tmp_path):
    folder, venv, log = tmp_path / "clone", tmp_path / "venv/bin", tmp_path / "log"
    (folder / "scripts").mkdir(parents=True)
    venv.mkdir(parents=True)
    for name in ("quickstart.sh", "setup.sh"):
        (folder / "scripts" / name).write_text((ROOT / "scripts" / name).read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "pyproject.toml").write_text("")
    for name in ("python", "rein"):  # stand-ins that write down how they are called
        (venv / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {log}\n')
        (venv / name).chmod(0o755)
    environment = {**os.environ, "REIN_VENV": str(venv.parent)}
    subprocess.run(["bash", str(folder / "scripts/quickstart.sh"), "--steps", "3"], check=True, env=environment, capture_output=True)
    calls = log.read_text().splitlines()
    assert [call.split("--editable ")[1] for call in calls if "--editable" in call] == ["."]
    assert [call for call in calls if call.startswith("rein")] == [
        "rein weights get dinov2_vits14",
        "rein train --config configs/quickstart.py --workdir runs/quickstart --steps 3",
        "rein train --config configs/quickstart.py:method=freeze --workdir runs/quickstart_freeze --steps 3",
        "rein diff runs/quickstart_freeze runs/quickstart",
    ]

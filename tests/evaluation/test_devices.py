"""Eight virtual devices, and two processes, count the same integers as one device."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.ports import reserved

HERE = Path(__file__).parent


def start(arguments, devices=1):
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
           "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen([sys.executable, str(HERE / "many.py"), *map(str, arguments)], env=env, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def finish(process):
    out, error = process.communicate(timeout=800)
    assert process.returncode == 0, error[-3000:]
    return json.loads(out.strip().splitlines()[-1])


def test_devices_and_processes_give_the_same_integers(tmp_path):
    one = finish(start([tmp_path / "one"]))
    eight = finish(start([tmp_path / "eight"], devices=8))
    with reserved() as port:
        pair = [start([tmp_path / "two", i, 2, f"127.0.0.1:{port}"], devices=2) for i in range(2)]
        first, second = (finish(process) for process in pair)
    assert (one["devices"], eight["devices"], first["processes"], first["devices"]) == (1, 8, 2, 4)
    assert one["numbers"]["town"]["images"] == 10 and "image 4" in one["numbers"]["town"]["skipped"][0]["why"]
    assert eight["numbers"] == one["numbers"]
    assert first["numbers"] == second["numbers"] == one["numbers"]
    kept = [sorted(str(p.relative_to(tmp_path / run)) for p in (tmp_path / run / "panels").rglob("*.*")) for run in ("one", "eight", "two")]
    assert kept[0] == kept[1] == kept[2] and len(kept[0]) == 2 * 4 * 3  # domains, best and worst two, files
    written = json.loads((tmp_path / "two" / "results.json").read_text())
    assert written["domains"]["city"]["confusion"] == one["numbers"]["city"]["confusion"]

"""A batch split among devices is scored without a word between them."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_images_are_scored_and_predictions_normed_where_they_lie():
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-m", "tests.heads.split"], cwd=ROOT, env=env, text=True, capture_output=True, timeout=800)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "devices": 8, "collectives": {}, "norm": {}, "kernel": {}, "bounded": {}, "kernels are right": True}

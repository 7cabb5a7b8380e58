"""Every script of examples/ runs at small sizes and does what it says."""

import os
import re
import subprocess
import sys

import numpy as np

from tests.examples.conftest import EXAMPLES

SCRIPTS = {path.stem for path in EXAMPLES.glob("*.py")}


def test_scripts_are_short_and_in_the_readme():
    assert SCRIPTS == {"use", "compose", "own_loop", "sharded_loop", "rein_elsewhere", "head_and_loss", "own_parts"}
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for path in [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("my_parts/*.py")]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 60, path.name
        assert f"`{path.relative_to(EXAMPLES)}`" in page, path.name


def test_use(example, tmp_path):
    result = example("use").main(["--out", "out", "--steps", "2"])
    assert result.labels.shape == (64, 128) and result.scores.shape == (64, 128, 19)
    assert (tmp_path / "out/overlay/street.png").exists()
    again = example("use").main(["--model", "out/tiny_run", "--image", "out/overlay/street.png", "--out", "again"])
    assert again.name == "street" and (tmp_path / "again/labels/street.png").exists()


def test_compose(example, capsys):
    model = example("compose").main(["--adapter", "lora", "--head", "linear"])
    assert model.classes.names == ("road", "building", "vegetation", "sky")
    assert "the same after loading: True" in capsys.readouterr().out


def test_own_loop(example, capsys):
    losses = example("own_loop").main(["--steps", "3", "--batch", "2", "--crop", "64"])
    assert len(losses) == 3 and losses[-1] < losses[0]
    assert "mIoU" in capsys.readouterr().out


def test_rein_elsewhere(example):
    losses = example("rein_elsewhere").main(["--steps", "10"])
    assert losses[-1] < 0.5 * losses[0]


def test_head_and_loss(example):
    losses = example("head_and_loss").main(["--steps", "5"])
    assert losses[-1] < losses[0]


def test_own_parts(example, tmp_path):
    run, losses = example("own_parts").main(["--workdir", str(tmp_path / "run")])
    assert run.results["steps"] == 5 and run.config.adapter.name == "ssf" and run.report.exists()
    assert len(losses) == 5 and losses[-1] < losses[0]


def test_sharded_loop_on_eight_devices_equals_one(example):
    """Replicated and split parameters on eight devices give the losses of one device."""
    one = example("sharded_loop").main(["--steps", "2"])
    code = "import sharded_loop; sharded_loop.main(['--steps', '2']); sharded_loop.main(['--steps', '2', '--split'])"
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900, env={
        **os.environ, "XLA_FLAGS": flags, "JAX_DEFAULT_MATMUL_PRECISION": "highest",
        "PYTHONPATH": os.pathsep.join([str(EXAMPLES), str(EXAMPLES.parent)])})  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = [float(loss) for loss in re.findall(r"on 8 devices: loss ([\d.]+)", done.stdout)]
    np.testing.assert_allclose(found, [*one, *one], rtol=1e-4)

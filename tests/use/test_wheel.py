"""The wheel: it holds every file of the packages, and works where there is no clone; systems without POSIX's modules; one version."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import cv2
import pytest

import rein_jax

ROOT = Path(__file__).parents[2]
PACKAGES = ("rein_jax", "data_pipelines", "configs")
SIGNALS = ("SIGKILL", "SIGBUS", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPIPE", "SIGQUIT", "SIGCHLD")  # and signals
FOREIGN = ("fcntl", "resource", "pwd", "grp", "termios", "array_record")  # modules that Windows lacks


def packaged_files() -> set[str]:
    """Files of the packages as they stand in the tree."""
    files = (path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that nothing is written into the tree, by the setuptools that is installed, so that nothing is downloaded."""
    pytest.importorskip("setuptools", minversion="77")
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in [*packaged_files(), "pyproject.toml", "README.md", "LICENSE"]:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    build = f"import setuptools.build_meta; setuptools.build_meta.build_wheel({str(out)!r})"
    done = subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


def test_the_wheel_holds_every_file_of_the_packages(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        entry = file.read(f"rein_jax-{rein_jax.__version__}.dist-info/entry_points.txt").decode()
    assert {name for name in names if ".dist-info/" not in name} == packaged_files()
    assert f"rein_jax-{rein_jax.__version__}.dist-info/licenses/LICENSE" in names
    assert "rein = rein_jax.cli.main:main" in entry


TRAINING = """
import json
from pathlib import Path
import rein_jax as rj
from rein_jax.backbones import BACKBONES
from rein_jax.backbones.dinov2 import DINOv2, ViTConfig

BACKBONES["dinov2_tiny"] = "rein_jax.backbones.dinov2:DINOv2"
DINOv2.VARIANTS["tiny"] = ViTConfig(embed_dim=24, depth=2, num_heads=2)
config = rj.config(
    "quickstart", head="linear", backbone={"name": "dinov2_tiny", "weights": "random", "image_size": 64, "out_indices": (0, 0, 1, 1)},
    adapter={"num_tokens": 4, "rank": 2, "link": False},
    data={"crop": (64, 64), "resize": "none", "threads": 1, "workers": 0}, train={"steps": 2, "batch": 1, "tensorboard": False},
    eval={"domains": [{"name": "streets", "style": "night", "split": "val", "length": 1}], "crop": 64, "stride": 64},
)
run = rj.train(config, "run")
print(json.dumps({"file": rj.__file__, "report": Path(run.report).is_file(), "night": sorted(run.results)}))
"""


@pytest.mark.slow
def test_a_wheel_works_outside_the_clone(wheel, tmp_path):
    """A new environment with the wheel, and the dependencies of this one: configs, command, templates, a training of two steps."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv/bin/python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet", str(wheel)]
    subprocess.run(install, check=True, cwd=tmp_path)
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    # Folders named in a .pth file come after the environment's own, and editable installs in them (.pth files too) are not followed.
    (site / "dependencies.pth").write_text("\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}) + "\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"REIN_CACHE": str(tmp_path / "cache")}

    def run(*command):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run(str(tmp_path / "venv/bin/rein"), "--version").strip() == rein_jax.__version__
    assert "quickstart" in run(str(tmp_path / "venv/bin/rein"), "sweep", "quickstart", "--grid", "seed=0", "--commands")
    printed = run(str(python), "-c", TRAINING)
    assert str(site) in printed and '"report": true' in printed and "night" in printed


WITHOUT_POSIX = """
import importlib, pkgutil, sys
from pathlib import Path
import grain, jax, orbax.checkpoint, tensorflow_datasets  # which know themselves what Windows lacks
import os, signal
for name in {foreign!r}:
    sys.modules[name] = None
for name in {signals!r}:
    delattr(signal, name)
for name in ("fork", "getuid", "geteuid", "sysconf", "sched_getaffinity", "getloadavg", "O_NONBLOCK", "O_CLOEXEC"):
    delattr(os, name)
import data_pipelines, rein_jax
from rein_jax.cli.main import main
for package in (rein_jax, data_pipelines):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
from tests.use import tiny
model = tiny.write_tiny("model.safetensors", "lora")
assert main(["predict", "model.safetensors", "street.png", "--out", "out"]) == 0
assert main(["evaluate", "model.safetensors", "--domain", "streets:style=night,length=1", "--out", "results", "--panels", "0"]) == 0
from rein_jax.training.workdir import alone
with alone(Path(".")), alone(Path(".")):
    print("trains without a lock")
"""


def test_no_command_needs_what_windows_lacks(tmp_path, scenes):
    cv2.imwrite(str(tmp_path / "street.png"), scenes[0][..., ::-1])
    program = WITHOUT_POSIX.format(foreign=FOREIGN, signals=SIGNALS)
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "REIN_CACHE": str(tmp_path / "cache")})
    assert done.returncode == 0, done.stderr
    assert "trains without a lock" in done.stdout and (tmp_path / "out").is_dir() and "mIoU" in done.stdout


def test_the_version_stands_in_one_place():
    """rein_jax.__version__, which pyproject.toml reads; the citation and the changelog, which no tool fills, say the same."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'version = {attr = "rein_jax.__version__"}' in project and not re.search(r'^version = "', project, re.M)
    assert re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.M)[1] == rein_jax.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d[^\]]*)\]", changelog, re.M)
    assert "## [Unreleased]" in changelog and released[:1] == [rein_jax.__version__]

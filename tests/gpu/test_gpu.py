"""What is otherwise on a CUDA device than on a CPU: cuDNN's attention, bf16, the training step's numbers, repeats and resuming bit by bit.

Run with `scripts/test.sh --gpu`, which runs the tests of layers, models, losses and the trainer on the device too.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rein_jax.kernels.attention import attend

pytestmark = pytest.mark.gpu
HERE = Path(__file__).parent
QUICK = "--xla_gpu_enable_triton_gemm=false"  # compiling with Triton's products tried out takes minutes longer
DETERMINISTIC = f"--xla_gpu_deterministic_ops=true {QUICK}"


@pytest.fixture(autouse=True, scope="module")
def device():
    if jax.default_backend() != "gpu":
        pytest.skip(f"JAX runs on {jax.default_backend()}: set JAX_PLATFORMS=cuda")


def process(*command: str, **environment: str) -> dict:
    """The JSON line of a process of its own."""
    path = os.pathsep.join([str(HERE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    cache = str(Path(tempfile.gettempdir()) / "rein_test_xla")  # a repeat runs the program of the first run
    more = {"PYTHONPATH": path, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TQDM_DISABLE": "1", "JAX_COMPILATION_CACHE_DIR": cache,
            **environment}
    done = subprocess.run([sys.executable, *command], cwd=HERE.parents[1], env={**os.environ, **more}, text=True, capture_output=True,
                          timeout=600)
    assert done.returncode in (0, 75), done.stdout + done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1]) if done.returncode == 0 else {}


def steps(precision: str, **environment: str) -> dict:
    return process(str(HERE / "steps.py"), precision, **{"JAX_PLATFORMS": "cuda", "XLA_FLAGS": QUICK, **environment})


@pytest.fixture(scope="module")
def on_cpu():
    return steps("fp32", JAX_PLATFORMS="cpu")


@pytest.fixture(scope="module")
def deterministic():
    return steps("fp32", XLA_FLAGS=DETERMINISTIC, JAX_DEFAULT_MATMUL_PRECISION="highest")


@pytest.mark.parametrize("shape", [(2, 65, 6, 64), (1, 1025, 16, 64), (2, 257, 4, 80)])
def test_flash_attention_is_attention(shape):
    """bf16 against float32 of the same rounded inputs: values and gradients, relative to their norm."""
    q, k, v, weight = (jax.random.normal(key, shape, jnp.bfloat16) for key in jax.random.split(jax.random.key(0), 4))
    total = lambda *qkv: jnp.sum(attend(*qkv).astype(jnp.float32) * weight.astype(jnp.float32))
    flash = jax.jit(jax.value_and_grad(total, (0, 1, 2)))
    assert "cudnn$fmha" in flash.lower(q, k, v).compile().as_text()
    exact = [x.astype(jnp.float32) for x in (q, k, v)]
    got, want = attend(q, k, v), attend(*exact)
    for found, true in zip((got, *flash(q, k, v)[1]), (want, *jax.grad(total, (0, 1, 2))(*exact)), strict=True):
        difference = np.asarray(found, np.float32) - np.asarray(true)
        assert np.linalg.norm(difference) < 1e-2 * np.linalg.norm(np.asarray(true))


def test_training_steps_are_the_cpus(on_cpu, deterministic):
    """The same three steps with exact products: the losses after an update agree too."""
    assert on_cpu["device"] == "cpu" and deterministic["device"] == "gpu"
    np.testing.assert_allclose(deterministic["losses"], on_cpu["losses"], rtol=1e-3)


def test_bf16_steps_use_cudnn_and_stay_near(on_cpu):
    """auto means bf16 here."""
    found = steps("auto")
    assert found["flash"]
    np.testing.assert_allclose(found["losses"], on_cpu["losses"], rtol=0.03)


def test_deterministic_kernels_repeat_bit_by_bit(deterministic):
    again = steps("fp32", XLA_FLAGS=DETERMINISTIC, JAX_DEFAULT_MATMUL_PRECISION="highest")
    assert again["digest"] == deterministic["digest"]


def test_a_stopped_run_ends_with_the_same_weights(tmp_path):
    config = {"seed": 3, "train": {"steps": 12, "batch": 8, "checkpoint_every": 4, "log_every": 1, "keep": 2, "deterministic": True}}
    script, path = str(HERE.parent / "training" / "run_train.py"), os.pathsep.join([str(HERE.parents[1]), str(HERE.parent / "training")])
    go = lambda name, **more: process(script, str(tmp_path / name), json.dumps(config), JAX_PLATFORMS="cuda", XLA_FLAGS=DETERMINISTIC,
                                      PYTHONPATH=os.pathsep.join([path, os.environ.get("PYTHONPATH", "")]), **more)
    straight = go("straight")
    assert go("stopped", STOP_AT="7") == {}
    assert go("stopped")["digest"] == straight["digest"]

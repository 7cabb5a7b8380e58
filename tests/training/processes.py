"""Starting training processes for tests: each in its own process group, with a clean environment, and always ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def environment(devices: int = 1, **more: str) -> dict[str, str]:
    """The environment of a child: CPU, `devices` virtual devices, a shared compilation cache."""
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "rein_test_xla"))
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"  # else as here, for the same bits
    return {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)]),
            "XLA_FLAGS": flags, "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_DEFAULT_MATMUL_PRECISION": "highest", "TQDM_DISABLE": "1", **more}


def start(script: str, *arguments: str, devices: int = 1, **more: str) -> subprocess.Popen:
    """tests/training/SCRIPT in a process group of its own; its output is one text stream."""
    return subprocess.Popen([sys.executable, str(HERE / script), *arguments], env=environment(devices, **more), text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def finish(process: subprocess.Popen, seconds: float = 800) -> tuple[int, str]:
    """(exit code, output); a child that hangs is killed with its group, long after the slowest machine would have ended it."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        kill(process)
        output, _ = process.communicate()
        raise AssertionError(f"the child did not end in {seconds} s:\n{output}") from None
    return process.returncode, output


def kill(process: subprocess.Popen) -> None:
    """kill -9 to the child's group."""
    os.killpg(process.pid, signal.SIGKILL)


def run(script: str, *arguments: str, devices: int = 1, **more: str) -> tuple[int, str]:
    """Start and finish."""
    return finish(start(script, *arguments, devices=devices, **more))

"""Starting training processes for tests: each in its own process group, with a clean environment, and always ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def environment(devices: int = 1, **more: str) -> dict[str, str]:
    """The environment of a child: CPU, `devices` virtual devices, a shared compilation cache."""
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "rein_test_xla"))
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"  # compiles faster
    return {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)]),
            "XLA_FLAGS": flags, "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_DEFAULT_MATMUL_PRECISION": "highest", "TQDM_DISABLE": "1", **more}


def start(script: str, *arguments: str, devices: int = 1, **more: str) -> subprocess.Popen:
    """tests/training/SCRIPT in a process group of its own; its output is one text stream."""
    return subprocess.Popen([sys.executable, str(HERE / script), *arguments], env=environment(devices, **more), text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def finish(process: subprocess.Popen, seconds: float = 240) -> tuple[int, str]:
    """(exit code, output); a child that does not end is killed with its group."""
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


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

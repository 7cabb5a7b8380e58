"""What a number was measured on: processor, memory, devices, versions and the commit of the code."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

try:
    import resource
except ImportError:  # Windows
    resource = None

PACKAGES = ("rein_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "opencv-python-headless")


def machine() -> dict[str, Any]:
    """{"system", "processor", "cores", "memory_gb", "devices", "backend"} of this host."""
    return {"system": platform.platform(), "python": platform.python_version(), "processor": processor(), "cores": cores(),
            "memory_gb": memory_gb()[0], "backend": jax.default_backend(), "devices": [device_name(d) for d in jax.local_devices()]}


def versions(packages=PACKAGES) -> dict[str, str]:
    """{package: version}; packages that are not installed are left out."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Commit of the source folder, with "+" when files differ from it; "" outside a checkout."""
    root = Path(__file__).parents[2]
    git = ["git", "--no-optional-locks", "-C", str(root)]  # reading leaves nothing behind, even where it is killed
    try:
        run = lambda *args: subprocess.run([*git, *args], capture_output=True, text=True, timeout=20, check=True).stdout
        return run("rev-parse", "HEAD").strip()[:12] + ("+" if run("status", "--porcelain", "--untracked-files=no").strip() else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gb() -> tuple[float, float]:
    """(whole, available) host memory in GB, 0 where it is not told."""
    try:
        entries = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        return tuple(round(int(entries[key].split()[0]) / 1e6, 1) for key in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError):
        return 0.0, 0.0


def peak_rss() -> int:
    """Largest resident size of this process so far, in bytes; 0 where the system does not tell."""
    if resource is None:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def device_name(device: jax.Device) -> str:
    """`cpu`, `NVIDIA H100 80GB HBM3 (79.2 GB)`, ..."""
    limit = memory_stats(device).get("bytes_limit")
    return device.device_kind + (f" ({limit / 1e9:.1f} GB)" if limit else "")


def memory_stats(device: jax.Device) -> dict[str, int]:
    """What the device tells of its memory, in bytes; nothing on a CPU."""
    return (device.memory_stats() or {}) if device.platform != "cpu" else {}


def peak_device_mb() -> int | None:
    """Most memory that the arrays and programs of this process held on its first device, MB; None where that is not told (CPU)."""
    peak = memory_stats(jax.local_devices()[0]).get("peak_bytes_in_use")
    return None if peak is None else round(peak / 2**20)

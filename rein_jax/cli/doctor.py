"""`rein doctor`: whether this machine is ready, and what to do where it is not."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from data_pipelines.errors import DataError
from data_pipelines.paths import local_path

DESCRIPTION = """Checks this machine: versions, devices, memory, one training step compared with stored numbers, where weights and data
are looked for, and what to install for a GPU, a TPU, export and the web page."""
EPILOG = """examples:
  rein doctor
  rein doctor --json

Exit code: 0 ready, 1 something is wrong (marked with !!)."""
EXTRAS = {"export": ("jax2onnx", "onnx", "onnxruntime"), "demo": ("fastapi", "uvicorn", "python_multipart"), "plot": ("matplotlib",)}
MARKS = {True: "ok", False: "!!", None: "--"}


class Row(NamedTuple):
    """One finding. ok: True, False (wrong) or None (missing but not needed). fix: what to do, if anything."""

    title: str
    ok: bool | None
    text: str
    fix: str = ""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parse = argparse.ArgumentParser("rein doctor", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--json", action="store_true", help="the findings as JSON")
    return parse


def main(argv: list[str]) -> int:
    """Exit code 1 if anything is wrong."""
    given = parser().parse_args(argv)
    rows = [*software(), *hardware(), numbers(), *places(), *extras()]
    if given.json:
        print(json.dumps([row._asdict() for row in rows], indent=1))
    else:
        for row in rows:
            print(f"{MARKS[row.ok]}  {row.title:<18} {row.text}" + (f"\n      -> {row.fix}" if row.fix else ""))
    return 1 if any(row.ok is False for row in rows) else 0


def software() -> list[Row]:
    """Python and the packages that numbers depend on."""
    from rein_jax import __version__
    from rein_jax.bench.machine import versions

    found = {"rein_jax": __version__, **versions()}
    return [Row("python", sys.version_info >= (3, 11), sys.version.split()[0]),
            Row("packages", True, ", ".join(f"{name} {version}" for name, version in found.items()))]


def hardware() -> list[Row]:
    """Devices, and an accelerator that is there but not used."""
    import jax

    from rein_jax.bench.machine import cores, device_name, memory_gb, processor

    whole, free = memory_gb()
    rows = [Row("host", True, f"{processor()}, {cores()} cores, {whole:g} GB memory ({free:g} available)")]
    try:
        backend, devices = jax.default_backend(), jax.local_devices()
    except (RuntimeError, AssertionError) as error:  # an assertion where JAX_PLATFORMS names what is not installed
        return [*rows, Row("devices", False, f"JAX finds none ({first_line(error)})", "Unset JAX_PLATFORMS, or repair the driver.")]
    names = [device_name(device) for device in devices]
    text = f"{backend}: {len(names)} x {names[0]}" if len(set(names)) == 1 else f"{backend}: {', '.join(names)}"
    return [*rows, Row("devices", *_devices(backend, text))]


def _devices(backend: str, text: str) -> tuple[bool | None, str, str]:
    """ok, text and advice for the backend JAX runs on."""
    if backend != "cpu":
        return True, text, ""
    if Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi"):
        return False, text + "; an NVIDIA GPU is there but not used", "pip install 'rein_jax[gpu]' (CUDA 13; driver 580 or newer)"
    if any(Path("/dev").glob("accel[0-9]*")) or os.environ.get("TPU_NAME"):
        return False, text + "; a TPU is there but not used", "pip install 'rein_jax[tpu]'"
    return True, text + "; no accelerator: predicting and small runs work, the paper's runs need one", (
        "on a machine with an NVIDIA GPU: pip install 'rein_jax[gpu]'; on a TPU VM: pip install 'rein_jax[tpu]'")


def numbers() -> Row:
    """One training step against stored values."""
    from rein_jax.bench import selfcheck

    try:
        found = selfcheck.check()
    except (RuntimeError, AssertionError) as error:
        return Row("one training step", False, f"does not run ({first_line(error)})", "Repair the driver, or set JAX_PLATFORMS=cpu.")
    text = (f"loss {found['found']['loss']:.6f}, largest deviation from the stored numbers {found['worst']:.1e} "
            f"(allowed {selfcheck.TOLERANCE:g})")
    return Row("one training step", found["ok"], text, "" if found["ok"] else "Results here cannot be trusted; update jax and the driver.")


def first_line(error: Exception) -> str:
    """What an exception says, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0] or type(error).__name__


def places() -> list[Row]:
    """Cache, weights in it, data and the disk under the cache."""
    return [*_cache(), _data()]


def _cache() -> list[Row]:
    """The cache folder, the disk under it and the weights in it."""
    from rein_jax.errors import UserError
    from rein_jax.weights.fetch import cache_dir, cached
    from rein_jax.weights.manifest import PUBLISHED

    try:
        cache = cache_dir()
    except (UserError, DataError) as error:
        return [Row("cache", False, str(error), "Set REIN_CACHE to a folder that can be written.")]
    there = next(folder for folder in (cache, *cache.resolve().parents) if folder.exists())
    disk = f"{shutil.disk_usage(there).free / 1e9:.0f} GB free"
    writable = os.access(there, os.W_OK)
    return [Row("cache", writable, f"{cache} ({disk})", "" if writable else "Set REIN_CACHE to a folder that can be written."),
            Row("weights", True, ", ".join(name for name in PUBLISHED if cached(name)) or "none yet; they are fetched when first used")]


def _data() -> Row:
    """The folder of the data sets."""
    from data_pipelines import DATASETS

    root = os.environ.get("REIN_DATA")
    if not root:
        return Row("data", None, "REIN_DATA is not set; `streets` needs no files", "export REIN_DATA=/folder/with/cityscapes,gtav,...")
    try:
        folder = local_path(root)
    except DataError as error:
        return Row("data", False, f"REIN_DATA: {error}", "Point REIN_DATA to the folder that holds the data sets.")
    if not folder.is_dir():
        return Row("data", False, f"REIN_DATA={root} is not a folder", "Point REIN_DATA to the folder that holds the data sets.")
    found = [name for name in DATASETS if any((folder / f"{name}{suffix}").exists() for suffix in ("", ".zip"))]
    return Row("data", True, f"{root}: {', '.join(found) or 'no known data set'}")


def extras() -> list[Row]:
    """Optional parts."""
    import cv2

    rows = []
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        rows.append(Row(f"extra {extra}", None if missing else True, f"without {', '.join(missing)}" if missing else "installed",
                        f"pip install 'rein_jax[{extra}]'" if missing else ""))
    video = any("FFMPEG" in line and "YES" in line for line in cv2.getBuildInformation().splitlines())
    return [*rows, Row("video", video or None, f"OpenCV {cv2.__version__} with{'' if video else 'out'} FFmpeg")]

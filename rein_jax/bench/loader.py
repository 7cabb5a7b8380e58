"""`rein bench loader`: training images a second and core from 2048x1024 files, and where the time goes.

Files are made in a temporary folder: Cityscapes' layout with PNG, BDD100K's with JPEG. They go through our loader, through
ours from a decoded cache, and through a PyTorch DataLoader in a process of its own (`benchmarks/loader_torch.py`), turn by
turn. Rates a core count CPU time of all threads and processes, so that a busy machine does not blur the comparison;
wall-clock rates stand beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

SIZE = (1024, 2048)
TWIN = Path(__file__).parents[2] / "benchmarks" / "loader_torch.py"
H200_RATE = 150  # images a second of the 512 recipe on one H200, the goal that the loader has to feed


def main(argv: list[str]) -> dict[str, Any]:
    """Runs the benchmark and returns the result line."""
    args = _parse(argv)
    result = {"bench": "loader", "command": "rein bench loader " + " ".join(argv), "machine": machine(), "crop": args.crop}
    result |= {"batch": args.batch, "images_measured": args.images * args.rounds, "kinds": {}}
    with tempfile.TemporaryDirectory(prefix="rein-loader-") as folder:
        for kind in args.kinds:
            result["kinds"][kind] = measure(kind, Path(folder, kind), args)
    return result


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="rein bench loader", description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", choices=("png", "jpeg"), default=["png", "jpeg"])
    parser.add_argument("--images", type=int, default=64, help="images of one round")
    parser.add_argument("--files", type=int, default=8, help="different files")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=512)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--workers", type=int, default=0, help="worker processes of our loader (0: threads)")
    parser.add_argument("--no-torch", action="store_true", help="leave the PyTorch DataLoader out")
    return parser.parse_args(argv)


def machine() -> dict[str, Any]:
    """What the numbers were taken on."""
    names = ("numpy", "opencv-python-headless", "grain", "isal", "torch")
    cpu = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor())
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {
            name: metadata.version(name) for name in names if find_spec({"opencv-python-headless": "cv2"}.get(name, name))
        },
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def make_files(folder: Path, kind: str, count: int) -> dict[str, float]:
    """Street-sized noise pictures with label ellipses in a published layout; returns mean file sizes in MB."""
    import cv2

    sizes: dict[str, list[int]] = {"image": [], "label": []}
    for i in range(count):
        rng = np.random.default_rng(i)
        paths = _paths(folder, kind, f"frame_{i:06d}")
        for (what, path), pixels in zip(paths.items(), (_picture(rng), _label(rng)), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, 90] if path.suffix == ".jpg" else [])
            sizes[what].append(path.stat().st_size)
    return {what: round(statistics.mean(values) / 1e6, 3) for what, values in sizes.items()}


def _paths(folder: Path, kind: str, stem: str) -> dict[str, Path]:
    if kind == "png":
        city = "train/city"
        return {
            "image": folder / f"leftImg8bit/{city}/{stem}_leftImg8bit.png",
            "label": folder / f"gtFine/{city}/{stem}_gtFine_labelTrainIds.png",
        }
    return {"image": folder / f"images/10k/train/{stem}.jpg", "label": folder / f"labels/sem_seg/masks/train/{stem}.png"}


def _picture(rng: np.random.Generator) -> np.ndarray:
    """Smooth colour, texture and sensor noise: about the file sizes of Cityscapes (PNG) and BDD100K scaled up (JPEG)."""
    import cv2

    height, width = SIZE
    grow = lambda small: cv2.resize(small.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    colour = grow(rng.integers(0, 256, (height // 64, width // 64, 3)))
    texture = grow(12 * rng.standard_normal((height // 4, width // 4)))[..., None]
    return np.clip(colour + texture + rng.standard_normal((height, width, 3)), 0, 255).astype(np.uint8)


def _label(rng: np.random.Generator) -> np.ndarray:
    import cv2

    label = np.zeros(SIZE, np.uint8)
    for _ in range(150):
        centre, axes = (tuple(map(int, rng.integers(low, high))) for low, high in ((0, SIZE[::-1]), ((20, 20), (250, 250))))
        cv2.ellipse(label, centre, axes, float(rng.uniform(0, 180)), 0, 360, int(rng.integers(0, 19)), -1)
    return label


def measure(kind: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Rates of our loader and of the PyTorch one on files of one kind, and the stages of one image."""
    from data_pipelines import open_source
    from data_pipelines.cache import Cached

    sizes = make_files(folder, kind, args.files)
    source = open_source({"png": "cityscapes", "jpeg": "bdd100k"}[kind], split="train", source=folder)
    runs: dict[str, list[dict[str, float]]] = {"rein_jax": [], "rein_jax_cached": []}
    cached = Cached(source, folder / "cache", threads=args.threads)
    for _ in range(args.rounds):
        runs["rein_jax"].append(ours(source, args))
        runs["rein_jax_cached"].append(ours(cached, args))
        for name, style in () if args.no_torch else (("torch", "usual"), ("torch_with_our_transforms", "ours")):
            run = twin(folder, style, args)
            if run:
                runs.setdefault(name, []).append(run)
    out: dict[str, Any] = {"file_mb": sizes, "stages_ms": stages(source, args.crop)}
    for name, rounds in runs.items():
        out[name] = {key: round(statistics.median(run[key] for run in rounds), 2) for key in rounds[0]}
    rate = out["rein_jax"]["images_per_core_s"]
    for name in ("torch", "torch_with_our_transforms"):
        if name in out:
            out[f"ratio_to_{name}"] = round(rate / out[name]["images_per_core_s"], 3)
    return {**out, "cores_for_one_h200": float(f"{H200_RATE / rate:.3g}")}


def ours(source: Any, args: argparse.Namespace) -> dict[str, float]:
    """One round of `train_batches`: images per second of CPU time and of wall time (CPU of threads only, not of workers)."""
    from data_pipelines.mixture import train_batches
    from data_pipelines.transforms import TrainTransform

    options = {"batch": args.batch, "threads": args.threads, "workers": args.workers}
    with train_batches([source], None, TrainTransform(args.crop), **options) as batches:
        for _ in range(2 * max(args.threads, args.workers)):
            next(batches)  # fills the buffer, so that a round takes out as much as it puts in
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(args.images // args.batch):
            next(batches)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    count = args.images // args.batch * args.batch
    return {"images_per_core_s": count / (wall * args.workers if args.workers else cpu), "images_per_s": count / wall}


def twin(folder: Path, style: str, args: argparse.Namespace) -> dict[str, float] | None:
    """One round of the PyTorch DataLoader, in a process of its own; None where torch or the script is missing."""
    if not TWIN.exists() or find_spec("torch") is None:
        return None
    command = [sys.executable, str(TWIN), str(folder), "--style", style, "--workers", str(max(args.threads, args.workers, 1))]
    command += ["--images", str(args.images), "--batch", str(args.batch), "--crop", str(args.crop)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{TWIN.name} failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.splitlines()[-1])


def stages(source: Any, crop: int, repeats: int = 12) -> dict[str, float]:
    """Median CPU milliseconds of one thread for each stage of one image."""
    import cv2

    from data_pipelines import transforms as tf

    spent: dict[str, list[float]] = {}

    def timed(stage: str, action: Callable[[], Any]) -> Any:
        start = time.thread_time()
        value = action()
        spent.setdefault(stage, []).append(1e3 * (time.thread_time() - start))
        return value

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    for k in range(repeats):
        rng, encoded = np.random.default_rng(k), source.encoded(k % len(source))
        element = timed("decode_both", lambda: source.read(k % len(source)))  # noqa: B023
        timed("decode_label", lambda: source.facts.decode(encoded.label, encoded.label_file))  # noqa: B023
        image, label = element["image"], element["label"]
        size = tf.ShortestEdge.official(crop).draw(rng, *label.shape)
        image, label = timed("resize", lambda: tf.resize_pair(image, label, size))  # noqa: B023
        top, left, height, width = timed("choose_crop", lambda: tf.draw_crop(rng, label, (crop, crop)))  # noqa: B023
        image, label = (a[top : top + height, left : left + width] for a in (image, label))
        image = timed("flip", lambda: (cv2.flip(image, 1), cv2.flip(label, 1)))[0]  # noqa: B023
        timed("photometric", lambda: tf.photometric(image, tf.Photometric().draw(rng)))  # noqa: B023
    cv2.setNumThreads(before)
    out = {stage: statistics.median(times) for stage, times in spent.items()}
    out["photometric"] = statistics.mean(spent["photometric"])  # half of its operations are drawn in each image
    out["decode_image"] = out.pop("decode_both") - out["decode_label"]
    return {stage: round(out[stage], 2) for stage in ("decode_image", "decode_label", *list(out)[1:-1])}

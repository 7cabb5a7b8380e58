"""`rein bench evaluate`: images a second over 2048x1024 files, where the time goes, and whether host memory stays flat.

Images are PNG files of a made-up scene, decoded anew for every image as from a disk. Model: the architecture of a config with
random weights, or `tiny` (one linear map of the pixels), which leaves nothing but the evaluation itself to measure.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import cv2
import jax
import numpy as np
from flax import nnx

from data_pipelines.labels import CITYSCAPES
from rein_jax import trees
from rein_jax.evaluation.evaluator import evaluate
from rein_jax.precision import policy
from rein_jax.reporting.results import versions

SIZE = (1024, 2048)
WINDOWS = ((512, 341), (1024, 683))


class Tiny(nnx.Module):
    """Scores that are a linear map of the pixel: an evaluation without a model to wait for."""

    def __init__(self):
        random = np.random.default_rng(0)
        self.kernel = nnx.Param(jax.numpy.asarray(random.normal(size=(3, len(CITYSCAPES))), jax.numpy.float32))
        self.classes, self.patch = CITYSCAPES, 16

    def scores(self, images, size=None):
        """uint8 [B,h,w,3] -> float32 [B,h,w,19]."""
        return (images.astype(jax.numpy.float32) / 255) @ self.kernel[...]

    def probabilities(self, scores):
        """Softmax."""
        return nnx.softmax(scores, axis=-1)


class Scenes:
    """`images` elements decoded from a few encoded 2048x1024 scenes; notes the process's memory now and then."""

    name, domain, split, classes = "scenes", "scenes", "val", CITYSCAPES

    def __init__(self, images: int):
        self.images, self.memory = images, {}
        self.files = [tuple(_png(part) for part in _scene(seed)) for seed in range(4)]

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, i: int) -> dict[str, Any]:
        image, label = (cv2.imdecode(data, cv2.IMREAD_UNCHANGED) for data in self.files[i % len(self.files)])
        if i % max(1, self.images // 20) == 0:
            self.memory[i] = resident()
        return {"image": np.ascontiguousarray(image[..., ::-1]), "label": label, "name": f"{i:06d}"}

    def fingerprint(self) -> str:
        """Of nothing but the number of images: nothing is resumed."""
        return f"scenes-{self.images}"


def _scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    label = np.kron(random.integers(0, len(CITYSCAPES), (8, 16)), np.ones((SIZE[0] // 8, SIZE[1] // 16))).astype(np.uint8)
    image = np.array(CITYSCAPES.palette, np.int16)[label] + random.integers(-20, 21, (*SIZE, 3), dtype=np.int16)
    return image.clip(0, 255).astype(np.uint8), label


def _png(array: np.ndarray) -> np.ndarray:
    return cv2.imencode(".png", array)[1]


def resident() -> float:
    """Resident memory of this process, MB (0 where /proc is missing)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * 4096 / 1e6
    except OSError:
        return 0.0


def main(argv: list[str]) -> dict[str, Any]:
    """Runs the benchmark and returns the result line."""
    parse = argparse.ArgumentParser(prog="rein bench evaluate", description=__doc__,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--config", default="tiny", help="a config (its architecture with random weights), or `tiny` (default)")
    parse.add_argument("--images", type=int, default=20, help="images measured, after the compilation (default 20)")
    parse.add_argument("--windows", nargs="+", default=[f"{c}/{s}" for c, s in WINDOWS], metavar="CROP/STRIDE")
    parse.add_argument("--batch", type=int, default=4, help="windows per device in one call (default 4)")
    parse.add_argument("--threads", type=int, default=4, help="threads that decode images (default 4)")
    parse.add_argument("--calibration", action="store_true")
    parse.add_argument("--boundary", action="store_true")
    given = parse.parse_args(argv)
    model = _model(given.config)
    found: dict[str, Any] = {"bench": "evaluate", "model": given.config, "size": f"{SIZE[1]}x{SIZE[0]}", "batch": given.batch}
    found.update(versions())
    for text in given.windows:
        crop, stride = (int(n) for n in text.split("/"))
        found[f"slide {text}"] = measure(model, crop, stride, given)
    return found


def _model(config: str):
    if config == "tiny":
        module_def, _, params = trees.split(Tiny(), ())
        return module_def, params
    from rein_jax import build, configuration

    module_def, trainable, frozen, _ = build.build_params(configuration.load(config), CITYSCAPES, pretrained=False)
    return module_def, trees.cast({**trainable, **frozen}, policy("auto").compute)


def measure(model, crop: int, stride: int, given: argparse.Namespace) -> dict[str, Any]:
    """One window size: compile on a few images, then measure."""
    how = {"crop": crop, "stride": stride, "batch": given.batch, "threads": given.threads, "progress": False,
           "calibration": given.calibration, "boundary": given.boundary}
    begin = time.perf_counter()
    evaluate(model, [Scenes(2)], **how)
    first = time.perf_counter() - begin
    source = Scenes(given.images)
    speed = evaluate(model, [source], **how).domains["scenes"]["speed"]
    memory = [source.memory[i] for i in sorted(source.memory)]
    settled = memory[len(memory) // 4 :]
    return {"images": given.images, "images_per_second": round(speed["images_per_second"], 3), "data_wait": round(speed["data_wait"], 4),
            "metric_share": round(speed["metric"], 4), "first_two_images_seconds": round(first, 2),
            "memory_mb": {"start": round(memory[0]), "end": round(memory[-1]), "growth_after_a_quarter": round(settled[-1] - settled[0])}}

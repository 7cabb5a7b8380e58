"""Export, run what was exported, compare it with JAX, measure; a file that does not agree is removed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_pipelines.atomic import write_atomically
from data_pipelines.paths import local_path
from rein_jax import __version__, trees
from rein_jax.errors import UserError
from rein_jax.evaluation.eval_model import eval_model
from rein_jax.export import stablehlo, to_onnx
from rein_jax.export.program import Plan, answer, float32, merged, program

TARGETS = {"stablehlo": ".stablehlo", "onnx": ".onnx"}
TOLERANCE = 1e-4  # of the largest score, or absolute where scores are below 1
BATCHES = (1, 3)


def export_model(model: Any, to: str, plan: Plan, out: str | Path, *, merge: bool | None = None, seconds: float = 3.0) -> dict[str, Any]:
    """Writes a model as one program, with a description of the same name and .json.

    Args:
        model: run folder, model.safetensors or Segmenter.
        to: "stablehlo" or "onnx".
        plan: what is inside the program.
        out: file; its suffix is added where it lacks.
        merge: fold adapters into the backbone (None: where exact).
        seconds: how long its speed is measured.

    Returns:
        What the description holds: the plan, deviations, size and speed.

    Raises:
        UserError: the program, run and compared with JAX at two batch sizes, differs; there is then no file.

    Example:
        rj.export.export_model("runs/mine", "stablehlo", rj.export.Plan(size=(512, 1024)), "mine")
    """
    if to not in TARGETS:
        raise UserError(f"Cannot export to {to!r}; choose {' or '.join(TARGETS)}.")
    found = eval_model(model, precision="fp32")
    plan.check(found.patch)
    module_def, params, folded = merged(found.module_def, found.params, merge)
    path = local_path(out)
    path = path if path.suffix == TARGETS[to] else path.with_name(path.name + TARGETS[to])
    facts = {"format": to, "written_by": f"rein_jax {__version__}", "model": str(found.facts.get("path", "")), **plan.describe(),
             "classes": list(found.classes.names), "palette": [list(colour) for colour in found.classes.palette],
             "adapters": "merged into the backbone" if folded else "as they are", "parameters": trees.count(params)}
    begin = time.perf_counter()
    run = program(module_def, params, plan, unroll=to == "onnx")
    if to == "onnx":
        to_onnx.write(run, plan.size, path, plan.output, {"rein": json.dumps(facts)})
    else:
        stablehlo.write(run, plan.size, path)
    facts["seconds_to_export"] = round(time.perf_counter() - begin, 1)
    try:
        call = (to_onnx if to == "onnx" else stablehlo).read(path)
        facts.update(compare(call, reference(found, plan), plan), bytes=path.stat().st_size, images_per_second=speed(call, plan, seconds))
        write_atomically(path.with_name(path.name + ".json"), (json.dumps(facts, indent=1) + "\n").encode())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return {"file": str(path), **facts}


def reference(found: Any, plan: Plan) -> Callable[[Any], dict[str, np.ndarray]]:
    """The plan in JAX with the adapters as they are: images -> {"scores"} and {plan.output}."""
    kinds = {"scores", plan.output} - {"labels"}
    weights = float32(found.params)  # arguments here: XLA would work for long at what it could fold among constants
    runs = {kind: jax.jit(partial(answer, found.module_def, plan=replace(plan, output=kind))) for kind in kinds}

    def call(images) -> dict[str, np.ndarray]:
        with jax.default_matmul_precision("highest"):
            return {kind: np.asarray(run(weights, images=images)) for kind, run in runs.items()}

    return call


def compare(call: Callable, expected: Callable, plan: Plan) -> dict[str, Any]:
    """{"largest_deviation": {batch: value}, "compared_with"}; UserError beyond TOLERANCE.

    A label may differ only where JAX's score for it is within the tolerance of the best one; that difference is the deviation.
    """
    deviations = {}
    for batch in BATCHES:
        images = sample(batch, plan.size)
        wanted, got = expected(images), call(images)
        shape = wanted["scores"].shape[: 3 if plan.output == "labels" else 4]
        if got.shape != shape or got.dtype != (np.uint8 if plan.output == "labels" else np.float32):
            raise UserError(f"The exported program gives {got.dtype} {got.shape} where {shape} was expected; nothing was written.")
        value = deviation(got, wanted, plan.output)
        if not value <= TOLERANCE:
            raise UserError(f"The exported program differs from JAX by {value:.1e} (allowed {TOLERANCE:g}) at batch {batch}; "
                            "nothing was written.")
        deviations[str(batch)] = value
    return {"largest_deviation": deviations, "compared_with": f"JAX {jax.__version__} on {jax.default_backend()}"}


def deviation(got: np.ndarray, wanted: dict[str, np.ndarray], output: str) -> float:
    """Largest difference as a share of the largest score (of 1 where scores are smaller)."""
    scores = wanted["scores"]
    scale = max(1.0, float(np.abs(wanted[output] if output != "labels" else scores).max()))
    if output != "labels":
        return float(np.abs(got - wanted[output]).max()) / scale
    chosen = np.take_along_axis(scores, np.minimum(got, scores.shape[-1] - 1)[..., None].astype(np.int64), axis=-1)[..., 0]
    return float((scores.max(-1) - chosen).max()) / scale


def sample(batch: int, size: tuple[int, int]) -> np.ndarray:
    """Smooth pictures with some noise, uint8 [B, H, W, 3]."""
    rng = np.random.default_rng(batch)
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    waves = [128 + 80 * np.sin(x / rng.uniform(5, 40) + y / rng.uniform(5, 40)) for _ in range(3 * batch)]
    pictures = np.stack(waves).reshape(batch, 3, *size).transpose(0, 2, 3, 1) + rng.normal(0, 12, (batch, *size, 3))
    return pictures.clip(0, 255).astype(np.uint8)


def speed(call: Callable, plan: Plan, seconds: float) -> dict[str, float]:
    """Images per second by batch size: the median of the calls that fit into the time, at least one."""
    found = {}
    for batch in (1, 4):
        images, times = sample(batch, plan.size), []
        call(images)
        until = time.perf_counter() + seconds / 2
        while not times or time.perf_counter() < until:
            begin = time.perf_counter()
            call(images)
            times.append(time.perf_counter() - begin)
        found[str(batch)] = round(batch / float(np.median(times)), 3)
    return found

"""`rein bench step`: images a second, compile time, memory and operations of one config's training step."""

from __future__ import annotations

import argparse
import itertools
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from rein_jax import config_io, trees
from rein_jax.precision import policy as precision_policy
from rein_jax.sharding import make_mesh, place_batch
from rein_jax.training import identity, memory
from rein_jax.training.flops import count_flops, peak
from rein_jax.training.guards import CompileBudget
from rein_jax.training.parts import Parts
from rein_jax.training.settings import settings
from rein_jax.training.state import place_run
from rein_jax.training.step import STOP, make_step


def main(argv: list[str], build: Callable[..., Parts] | None = None) -> dict[str, Any]:
    """Runs the benchmark and returns the result line."""
    overrides, rest = config_io.split_overrides(argv)
    options = _parser().parse_args(rest)
    config = config_io.load(options.config, overrides)
    return measure(config, steps=options.steps, warmup=options.warmup, real=options.real_data, build=build,
                   command="rein bench step " + " ".join(argv))


def _parser() -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser("rein bench step", description=__doc__, allow_abbrev=False)
    parse.add_argument("--config", default="configs/quickstart.py", help="config file (default: the quick start)")
    parse.add_argument("--steps", type=int, default=20, help="steps that are timed")
    parse.add_argument("--warmup", type=int, default=3, help="steps before")
    parse.add_argument("--real-data", action="store_true", help="read the config's data instead of drawing one batch and keeping it")
    return parse


def measure(config: Any, *, steps: int = 20, warmup: int = 3, real: bool = False, build: Callable[..., Parts] | None = None,
            command: str = "") -> dict[str, Any]:
    """Time the training step of a config; the backbone's weights are random (they do not change the speed)."""
    parts = _parts(config, real, build)
    plain = identity.as_dict(config)
    chosen, policy = settings(plain["train"]), precision_policy(plain.get("precision", "auto"))
    mesh = make_mesh(plain.get("mesh"))
    identity.check_batch(chosen, mesh)
    placed = place_run(parts.trainable, parts.frozen, parts.tx, policy, mesh, identity.rules(plain), chosen.ema > 0)
    step = make_step(parts.skeleton, parts.tx, policy, mesh, placed.shardings, schedule=parts.schedule, augment=parts.augment,
                     accumulate=chosen.accumulate, ema=chosen.ema)
    compiled = CompileBudget(lambda batch: step.lower(placed.state, placed.frozen, batch).compile(), 0)
    if real:
        batches = parts.batches(0, jax.process_index(), jax.process_count())
    else:
        batches = synthetic(chosen.batch, parts.crop, len(parts.classes.names))
    start = time.perf_counter()
    program = compiled.program(_placed(next(batches), mesh))
    compile_seconds = time.perf_counter() - start
    seconds, waits = _time(compiled, placed, batches, mesh, warmup, steps)
    flops = count_flops(step, placed.state, placed.frozen, _placed(next(batches), mesh))
    return _line(config, plain, parts, placed, mesh, chosen, program, {
        "command": command, "compile_seconds": round(compile_seconds, 2), "compilations": compiled.count,
        "step_seconds": statistics.median(seconds), "images_per_second": chosen.batch / statistics.median(seconds),
        "step_seconds_spread": [min(seconds), max(seconds)], "data_wait": sum(waits) / sum(seconds),
        "data": "real" if real else "synthetic",
        "flops_per_step": flops, "compute": np.dtype(policy.compute).name})


def _parts(config: Any, real: bool, build: Callable[..., Parts] | None) -> Parts:
    """Parts with initial values; without `real` no data set is opened."""
    if build is not None:
        return build(config)
    from rein_jax.build import build_all, build_params

    parts = build_all(config, abstract=not real)
    if not real:
        parts.skeleton, parts.trainable, parts.frozen, _ = build_params(config, parts.classes, pretrained=False)
    return parts


def synthetic(size: int, crop: tuple[int, int], classes: int) -> Iterator[dict]:
    """One drawn batch, for ever: blocks of labels, noise for pixels."""
    rng = np.random.default_rng(0)
    rows = -(-crop[0] // 32), -(-crop[1] // 32)
    label = np.kron(rng.integers(0, classes, (size, *rows), np.uint8), np.ones((1, 32, 32), np.uint8))[:, : crop[0], : crop[1]]
    batch = {"image": rng.integers(0, 256, (size, *crop, 3), np.uint8), "label": label,
             "size": np.tile(np.array(crop, np.int32), (size, 1)), "index": np.zeros((size, 2), np.int32)}
    return itertools.repeat(batch)


def _placed(batch: dict, mesh: Any) -> dict:
    batch = {name: array for name, array in batch.items() if name != "name"}
    return place_batch({**batch, STOP: np.zeros(len(batch["image"]), np.int32)}, mesh)


def _time(compiled: CompileBudget, placed: Any, batches: Iterator[dict], mesh: Any, warmup: int, steps: int) -> tuple[list, list]:
    """(seconds of each step, seconds of these spent waiting for data), the next batch being fetched while a step runs."""
    seconds, waits = [], []
    batch = _placed(next(batches), mesh)
    for number in range(warmup + steps):
        start = time.perf_counter()
        placed.state, metrics = compiled.program(batch)(placed.state, placed.frozen, batch)
        batch = _placed(next(batches), mesh)
        fetched, idle = time.perf_counter(), metrics["loss"].is_ready()
        jax.block_until_ready(metrics)
        end = time.perf_counter()
        if number >= warmup:
            seconds.append(end - start)
            waits.append(fetched - start if idle else 0.0)
    return seconds, waits


def _line(config: Any, plain: dict, parts: Parts, placed: Any, mesh: Any, chosen: Any, program: Any, measured: dict) -> dict[str, Any]:
    """The result: what was measured, and what it was measured on."""
    device, used = mesh.devices.flat[0], program.memory_analysis()
    stats = (device.memory_stats() or {}) if device.platform != "cpu" else {}
    top = peak(device.device_kind)
    share = measured["flops_per_step"] / measured["step_seconds"] / mesh.devices.size / top if top else None
    return {"bench": "step", "config": plain.get("name", ""), "backbone": plain.get("backbone", {}).get("name", ""), **measured,
            "batch": chosen.batch, "crop": list(parts.crop), "devices": int(mesh.devices.size), "device": device.device_kind,
            "mfu": share, "argument_bytes": used.argument_size_in_bytes, "temporary_bytes": used.temp_size_in_bytes,
            "peak_device_bytes": stats.get("peak_bytes_in_use"),
            "peak_host_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "plan_bytes": memory.on_device(placed.state) + memory.on_device(placed.frozen),
            "trainable": trees.count(placed.state.trainable), "frozen": trees.count(placed.frozen), "jax": jax.__version__}

"""`rein bench step`: images a second, compile time, memory and operations of one config's training step."""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from rein_jax import configuration, trees
from rein_jax.bench.machine import memory_stats, peak_rss
from rein_jax.components import TrainComponents
from rein_jax.configuration.training import settings
from rein_jax.planning.flops import count_flops, peak
from rein_jax.precision import policy as precision_policy
from rein_jax.sharding import make_mesh, place_batch
from rein_jax.training import memory, run_metadata
from rein_jax.training.guards import CompileBudget
from rein_jax.training.state import place_run
from rein_jax.training.step import STOP, make_step


def main(argv: list[str], build: Callable[..., TrainComponents] | None = None) -> dict[str, Any]:
    """Runs the benchmark and returns the result line."""
    overrides, rest = configuration.split_overrides(argv)
    options = _parser().parse_args(rest)
    config = configuration.load(options.config, overrides)
    return measure(config, steps=options.steps, warmup=options.warmup, real=options.real_data, queued=options.queued, build=build,
                   command="rein bench step " + " ".join(argv))


def _parser() -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser("rein bench step", description=__doc__, allow_abbrev=False)
    parse.add_argument("--config", default="configs/quickstart.py", help="config file (default: the quick start)")
    parse.add_argument("--steps", type=int, default=20, help="steps that are timed")
    parse.add_argument("--warmup", type=int, default=3, help="steps before")
    parse.add_argument("--queued", action="store_true", help="also as many steps without waiting for each, as training runs")
    parse.add_argument("--real-data", action="store_true", help="read the config's data instead of drawing one batch and keeping it")
    return parse


def measure(config: Any, *, steps: int = 20, warmup: int = 3, real: bool = False, queued: bool = False,
            build: Callable[..., TrainComponents] | None = None, command: str = "") -> dict[str, Any]:
    """Time the training step of a config; the backbone's weights are random (they do not change the speed)."""
    run = Prepared(config, real=real, build=build)
    seconds, waits = _time(run, warmup, steps)
    more = {"queued_step_seconds": _time_queued(run, steps)} if queued else {}
    flops = count_flops(run.jitted, run.sharded.state, run.sharded.frozen, run.batch)
    return _line(run, {
        "command": command, "compile_seconds": round(run.compile_seconds, 2), "compilations": run.compiled.count,
        "step_seconds": statistics.median(seconds), "images_per_second": run.chosen.batch / statistics.median(seconds),
        "step_seconds_spread": [min(seconds), max(seconds)], "data_wait": sum(waits) / sum(seconds),
        "data": "real" if real else "synthetic", **more,
        "flops_per_step": flops, "compute": np.dtype(run.policy.compute).name})


class Prepared:
    """A config's training step, compiled, with a state and a first batch on the devices; `step()` runs it once."""

    def __init__(self, config: Any, *, real: bool = False, build: Callable[..., TrainComponents] | None = None):
        self.components, self.plain = _parts(config, real, build), run_metadata.as_dict(config)
        plain, components = self.plain, self.components
        self.chosen, self.policy = settings(plain["train"]), precision_policy(plain.get("precision", "auto"))
        self.mesh = make_mesh(plain.get("mesh"))
        run_metadata.check_batch(self.chosen, self.mesh)
        self.sharded = place_run(components.trainable, components.frozen, components.tx, self.policy, self.mesh,
                                 run_metadata.rules(plain), self.chosen.ema > 0, wishes=components.module_def.wishes)
        self.jitted = make_step(components.module_def, components.tx, self.policy, self.mesh, self.sharded.shardings,
                                schedule=components.schedule,
                                augment=components.augment, **self.chosen.of_step())
        self.compiled = CompileBudget(lambda batch: self.jitted.lower(self.sharded.state, self.sharded.frozen, batch).compile(), 0)
        self.batches = (components.batches(0, jax.process_index(), jax.process_count()) if real
                        else synthetic(self.chosen.batch, components.crop, len(components.classes.names)))
        self.fetch()
        start = time.perf_counter()
        self.program = self.compiled.program(self.batch)
        self.compile_seconds = time.perf_counter() - start

    def fetch(self) -> None:
        """Put the next batch on the devices."""
        self.batch = _placed(next(self.batches), self.mesh)

    def step(self) -> dict[str, jax.Array]:
        """One training step on the given batch: its metrics, not waited for."""
        self.sharded.state, metrics = self.compiled.program(self.batch)(self.sharded.state, self.sharded.frozen, self.batch)
        return metrics


def _parts(config: Any, real: bool, build: Callable[..., TrainComponents] | None) -> TrainComponents:
    """The components with initial values; without `real` no data set is opened."""
    if build is not None:
        return build(config)
    from rein_jax.build import build_all, build_params

    components = build_all(config, abstract=not real)
    if not real:
        components.module_def, components.trainable, components.frozen, _ = build_params(config, components.classes, pretrained=False)
    return components


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


def _time(run: Prepared, warmup: int, steps: int) -> tuple[list, list]:
    """(seconds of each step, seconds of these spent waiting for data), the next batch being fetched while a step runs."""
    seconds, waits = [], []
    run.fetch()
    for number in range(warmup + steps):
        start = time.perf_counter()
        metrics = run.step()
        run.fetch()
        fetched, idle = time.perf_counter(), metrics["loss"].is_ready()
        jax.block_until_ready(metrics)
        end = time.perf_counter()
        if number >= warmup:
            seconds.append(end - start)
            waits.append(fetched - start if idle else 0.0)
    return seconds, waits


def _time_queued(run: Prepared, steps: int) -> float:
    """Seconds of a step among steps that are not waited for: a device then has the next one ready when one ends."""
    start = time.perf_counter()
    for _ in range(steps):
        metrics = run.step()
        run.fetch()
    jax.block_until_ready(metrics)
    return (time.perf_counter() - start) / steps


def _line(run: Prepared, measured: dict) -> dict[str, Any]:
    """The result: what was measured, and what it was measured on."""
    device, used, devices = run.mesh.devices.flat[0], run.program.memory_analysis(), int(run.mesh.devices.size)
    top = peak(device.device_kind)
    share = measured["flops_per_step"] / measured["step_seconds"] / devices / top if top else None
    return {"bench": "step", "config": run.plain.get("name", ""), "backbone": run.plain.get("backbone", {}).get("name", ""), **measured,
            "batch": run.chosen.batch, "crop": list(run.components.crop), "devices": devices, "device": device.device_kind,
            "mfu": share, "argument_bytes": used.argument_size_in_bytes, "temporary_bytes": used.temp_size_in_bytes,
            "peak_device_bytes": memory_stats(device).get("peak_bytes_in_use"),
            "peak_host_bytes": peak_rss(),
            "plan_bytes": memory.on_device(run.sharded.state) + memory.on_device(run.sharded.frozen),
            "trainable": trees.count(run.sharded.state.trainable), "frozen": trees.count(run.sharded.frozen), "jax": jax.__version__}

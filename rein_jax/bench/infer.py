"""`rein bench infer`: images a second and latency (p50, p99) of a model, from uint8 images to labels, both on the host.

Each call is waited for, as a program that answers one request after another would.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rein_jax import trees
from rein_jax.precision import policy
from rein_jax.reporting.results import versions

EXAMPLES = """examples:
  rein bench infer --config configs/quickstart.py
  rein bench infer --model runs/camvid --sizes 512 512x1024 --batches 1 8 --out infer.json"""


def main(argv: list[str]) -> dict[str, Any]:
    """Runs the benchmark and returns the result line."""
    given = _parser().parse_args(argv)
    name, module_def, params = _model(given)
    dtype = policy(given.precision).compute
    params = jax.device_put(trees.cast(params, dtype))
    found: dict[str, Any] = {"bench": "infer", "model": name, "compute": np.dtype(dtype).name, "parameters": trees.count(params),
                             **versions()}
    for size in given.sizes:
        for batch in given.batches:
            found[f"{size[0]}x{size[1]} batch {batch}"] = measure(module_def, params, size, batch, given.calls, given.seconds)
    return found


def _parser() -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser("rein bench infer", description=__doc__, epilog=EXAMPLES, allow_abbrev=False,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--model", help="run folder or model.safetensors")
    parse.add_argument("--config", default="configs/quickstart.py", help="else: this config's architecture with random weights")
    parse.add_argument("--sizes", nargs="+", type=size_of, default=[(512, 512), (1024, 1024)], metavar="HxW", help="default 512 1024")
    parse.add_argument("--batches", nargs="+", type=int, default=[1, 4], metavar="N", help="default 1 4")
    parse.add_argument("--calls", type=int, default=100, help="calls timed at most, after two to warm up (default 100)")
    parse.add_argument("--seconds", type=float, default=20.0, help="no new call after this time for each size and batch (default 20)")
    parse.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    return parse


def size_of(text: str) -> tuple[int, int]:
    """"512" or "512x1024" -> (height, width)."""
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def _model(given: argparse.Namespace):
    from rein_jax import build, configuration

    if given.model:
        return given.model, *build.load_parts(given.model)[:2]
    from data_pipelines.labels import CITYSCAPES

    config = configuration.load(given.config)
    module_def, trainable, frozen, _ = build.build_params(config, CITYSCAPES, pretrained=False)
    return config.name, module_def, {**trainable, **frozen}


@partial(jax.jit, static_argnums=0)
def label(module_def, params, images):
    """uint8 [B, H, W, 3] -> uint8 [B, H, W]."""
    return jnp.argmax(trees.merge(module_def, params).scores(images), axis=-1).astype(jnp.uint8)


def measure(module_def, params, size: tuple[int, int], batch: int, calls: int, seconds: float) -> dict[str, Any]:
    """One size and batch: compile, warm up twice, then time call after call."""
    images = np.random.default_rng(0).integers(0, 256, (batch, *size, 3), np.uint8)
    begin = time.perf_counter()
    program = label.lower(module_def, params, images).compile()
    compiled = time.perf_counter() - begin
    times: list[float] = []
    until = time.perf_counter() + seconds
    for number in range(calls + 2):
        begin = time.perf_counter()
        np.asarray(program(params, jax.device_put(images)))
        if number >= 2:
            times.append(time.perf_counter() - begin)
        if times and time.perf_counter() > until:
            break
    p50, p99 = np.percentile(times, (50, 99))
    memory = program.memory_analysis()
    return {"images_per_second": round(batch * len(times) / sum(times), 3), "p50_ms": round(1000 * p50, 2), "p99_ms": round(1000 * p99, 2),
            "calls": len(times), "compile_seconds": round(compiled, 2),
            "temporary_mb": round(memory.temp_size_in_bytes / 1e6, 1) if memory else None}

"""`rein bench scaling`: does the cost of the training step follow the work? Time an image as the batch grows, and as the crop grows.

Rein + Mask2Former on a frozen DINOv2, every size in a process of its own, in turns. Arithmetic is counted from the program as written
(`rein_jax.planning.flops`): matrix products and convolutions.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from rein_jax.bench.interleaved import REIN, in_turns
from rein_jax.errors import UserError


def main(argv: list[str]) -> dict[str, Any]:
    """Runs the benchmark and returns the result line."""
    given = _parser().parse_args(argv)
    axes = {"batch": [(batch, given.crop) for batch in given.batches], "crop": [(1, crop) for crop in given.crops]}
    sizes = {_name(*size): size for axis in axes.values() for size in axis}
    runs = in_turns({name: _command(given, *size) for name, size in sizes.items()}, given.rounds)
    for name, results in runs.items():
        for failed in (result["failed"] for result in results if "failed" in result):
            raise UserError(f"The measurement of {name} stopped: {failed}")
    rows = {name: _row(results, sizes[name][0]) for name, results in runs.items()}
    found: dict[str, Any] = {"bench": "scaling", "backbone": f"dinov2_{given.family}", "rounds": given.rounds, "sizes": rows}
    for axis, measured in axes.items():
        if len(measured) > 1:
            first, last = rows[_name(*measured[0])], rows[_name(*measured[-1])]
            found[axis] = {key: round(last[key] / first[key], 3) for key in ("seconds_per_image", "flops_per_image")}
    return found


def _parser() -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser("rein bench scaling", description=__doc__, allow_abbrev=False)
    parse.add_argument("--family", default="s", choices=("s", "b", "l"), help="size of the DINOv2 (default s)")
    parse.add_argument("--batches", type=int, nargs="*", default=(8, 64), help="images a step, smallest first (default 8 64)")
    parse.add_argument("--crop", type=int, default=512, help="side of the crop for --batches (default 512)")
    parse.add_argument("--crops", type=int, nargs="*", default=(512, 1024), help="sides for one image, smallest first (default 512 1024)")
    parse.add_argument("--steps", type=int, default=3, help="timed steps a round, after as many to warm up (default 3)")
    parse.add_argument("--rounds", type=int, default=1, help="turns of each size (default 1)")
    return parse


def _name(batch: int, crop: int) -> str:
    return f"batch_{batch}_crop_{crop}"


def _command(given: argparse.Namespace, batch: int, crop: int) -> list[str]:
    config = {"train.batch": batch, "backbone.image_size": crop, "data.crop": f"({crop},{crop})"}
    return [*REIN, "bench", "step", "--config", f"configs/rein_dinov2_gta.py:backbone=dinov2_{given.family}",
            *(f"--config.{key}={value}" for key, value in config.items()), "--steps", str(given.steps), "--warmup", str(given.steps)]


def _row(results: list[dict], batch: int) -> dict[str, Any]:
    """Of all rounds of one size."""
    return {"seconds_per_image": round(statistics.median(r["step_seconds"] for r in results) / batch, 4),
            "spread": [round(pick(value for r in results for value in r["step_seconds_spread"]) / batch, 4) for pick in (min, max)],
            "flops_per_image": results[0]["flops_per_step"] / batch, "temporary_mb": round(results[0]["temporary_bytes"] / 2**20),
            "peak_rss_mb": round(max(r["peak_host_bytes"] for r in results) / 2**20), "device": results[0]["device"],
            "jax": results[0]["jax"]}

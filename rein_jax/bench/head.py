"""`rein bench head`: time and memory of the Mask2Former head alone, forward and with gradients, beside the same head in PyTorch.

Every measurement runs in a process of its own, so that the peak memory is its own; the two libraries take turns, so that a
machine that slows down slows both. Gradients are those of all parameters and of the four maps.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rein_jax.bench.machine import commit, cores, machine

TWIN = Path(__file__).parents[2] / "benchmarks" / "head_torch.py"
MODES = ("forward", "gradients")


def main(argv: list[str]) -> dict[str, Any]:
    """Runs the benchmark and returns the result line."""
    given = _parser().parse_args(argv)
    if given.measure:
        return measure(given)
    found: dict[str, Any] = {"bench": "head", "command": " ".join(["rein bench head", *argv]), "machine": machine(), "commit": commit(),
                             "size": given.size, "width": given.width, "batch": given.batch}
    for mode in MODES:
        runs: dict[str, list[dict]] = {"ours": [], "torch": []}
        for _ in range(given.rounds):
            runs["ours"].append(_run([sys.executable, "-m", "rein_jax.bench.head", "--measure", mode, *_sizes(given),
                                      *(["--low_memory"] if given.low_memory else []), "--remat", given.remat]))
            if given.torch:
                runs["torch"].append(_run([sys.executable, str(TWIN), "--mode", mode, "--threads", str(cores()), *_sizes(given)]))
        found[mode] = {name: _summary(results) for name, results in runs.items() if results}
        if given.torch and all("seconds" in found[mode][name] for name in runs):
            found[mode]["times_faster"] = round(found[mode]["torch"]["seconds"] / found[mode]["ours"]["seconds"], 2)
    return found


def _parser() -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser("rein bench head", description=__doc__, allow_abbrev=False)
    parse.add_argument("--size", type=int, default=512, help="side of the crop (default 512)")
    parse.add_argument("--width", type=int, default=384, help="channels of the backbone's maps (default 384, DINOv2-S)")
    parse.add_argument("--batch", type=int, default=1)
    parse.add_argument("--passes", type=int, default=3, help="timed passes a round, after one to warm up (default 3)")
    parse.add_argument("--rounds", type=int, default=2, help="turns of each library (default 2)")
    parse.add_argument("--low_memory", action="store_true", help="deformable attention for some queries at a time")
    parse.add_argument("--remat", default="none", choices=("none", "dots", "full"), help="what the encoder recomputes")
    parse.add_argument("--no-torch", dest="torch", action="store_false", help="only our head")
    parse.add_argument("--measure", choices=MODES, help=argparse.SUPPRESS)
    return parse


def _sizes(given: argparse.Namespace) -> list[str]:
    return [part for name in ("size", "width", "batch", "passes") for part in (f"--{name}", str(getattr(given, name)))]


def _run(command: list[str]) -> dict[str, Any]:
    """The JSON line of a process, or {"failed": its last words}."""
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def _summary(results: list[dict]) -> dict[str, Any]:
    failed = [result for result in results if "failed" in result]
    if failed:
        return failed[0]
    seconds, processor = ([s for result in results for s in result[name]] for name in ("seconds", "cpu_seconds"))
    rest = {name: value for name, value in results[0].items() if name not in ("seconds", "cpu_seconds", "peak_rss_mb")}
    return {"seconds": round(statistics.median(seconds), 3), "best": round(min(seconds), 3),
            "cpu_seconds": round(statistics.median(processor), 3),
            "peak_rss_mb": round(max(result["peak_rss_mb"] for result in results)), **rest}


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Our head in this process: {"seconds", "cpu_seconds", "compile_s", "peak_rss_mb", "temporary_mb", ...}."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from rein_jax import trees
    from rein_jax.heads.mask2former import Mask2Former

    make = lambda rngs: Mask2Former((given.width,) * 4, 19, rngs=rngs, query_source="learned", low_memory=given.low_memory,
                                    remat=given.remat)
    skeleton, _, _ = trees.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))), ())
    params = jax.jit(lambda key: trees.flatten(make(nnx.Rngs(params=key))))(jax.random.key(0))
    maps = [jax.random.normal(jax.random.key(s), (given.batch, given.size // s, given.size // s, given.width)) for s in (4, 8, 16, 32)]

    def total(params, maps):
        outputs = trees.merge(skeleton, params)(maps)
        return sum((jnp.square(a).mean((1, 2, 3)) if a.ndim == 4 else jnp.square(a).mean((1, 2, 3, 4))).sum() for a in outputs.values())

    forward = lambda params, maps: trees.merge(skeleton, params)(maps)
    start = time.perf_counter()
    run = jax.jit(forward if given.measure == "forward" else jax.grad(total, argnums=(0, 1))).lower(params, maps).compile()
    compiled = time.perf_counter() - start
    seconds, processor = [], []
    for _ in range(given.passes + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(run(params, maps))
        seconds.append(time.perf_counter() - wall)
        processor.append(time.process_time() - cpu)
    memory = run.memory_analysis()
    return {"seconds": seconds[1:], "cpu_seconds": processor[1:], "compile_s": round(compiled, 1), "jax": jax.__version__,
            "temporary_mb": round(memory.temp_size_in_bytes / 2**20), "parameters": trees.count(params),
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))

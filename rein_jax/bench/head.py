"""`rein bench head`: time and memory of the Mask2Former head alone, forward and with gradients, beside the same head in PyTorch.

Gradients are those of all parameters and of the four maps. How it is measured: `rein_jax.bench.interleaved`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from rein_jax.bench.interleaved import REIN, take_turns, timed
from rein_jax.bench.machine import cores

TWIN = Path(__file__).parents[2] / "benchmarks" / "head_torch.py"
MODES = ("forward", "gradients")


def main(argv: list[str]) -> dict[str, Any]:
    """Runs the benchmark and returns the result line."""
    given = _parser().parse_args(argv)
    if given.measure:
        return measure(given)
    found: dict[str, Any] = {"bench": "head", "size": given.size, "width": given.width, "batch": given.batch}
    for mode in MODES:
        commands = {"ours": [*REIN, "bench", "head", "--measure", mode, *_sizes(given),
                             *(["--low_memory"] if given.low_memory else []), "--remat", given.remat]}
        if given.torch:
            commands["torch"] = [sys.executable, str(TWIN), "--mode", mode, "--threads", str(cores()), *_sizes(given)]
        found[mode] = take_turns(commands, given.rounds)
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


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Our head in this process: {"seconds", "cpu_seconds", "compile_s", "peak_rss_mb", "temporary_mb", ...}."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from rein_jax import trees
    from rein_jax.heads.mask2former import Mask2Former

    make = lambda rngs: Mask2Former((given.width,) * 4, 19, rngs=rngs, query_source="learned", low_memory=given.low_memory,
                                    remat=given.remat)
    module_def, _, _ = trees.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))), ())
    params = jax.jit(lambda key: trees.flatten(make(nnx.Rngs(params=key))))(jax.random.key(0))
    maps = [jax.random.normal(jax.random.key(s), (given.batch, given.size // s, given.size // s, given.width)) for s in (4, 8, 16, 32)]

    def total(params, maps):
        outputs = trees.merge(module_def, params)(maps)
        return sum((jnp.square(a).mean((1, 2, 3)) if a.ndim == 4 else jnp.square(a).mean((1, 2, 3, 4))).sum() for a in outputs.values())

    forward = lambda params, maps: trees.merge(module_def, params)(maps)
    start = time.perf_counter()
    run = jax.jit(forward if given.measure == "forward" else jax.grad(total, argnums=(0, 1))).lower(params, maps).compile()
    compiled = time.perf_counter() - start
    memory = run.memory_analysis()
    return {**timed(lambda: jax.block_until_ready(run(params, maps)), given.passes), "compile_s": round(compiled, 1),
            "jax": jax.__version__, "temporary_mb": round(memory.temp_size_in_bytes / 2**20), "parameters": trees.count(params)}


"""`rein bench torch`: training step and forward pass of Rein + Mask2Former on a frozen DINOv2, beside the same work in PyTorch.

The PyTorch side is `benchmarks/step_torch.py`: modules of `transformers`, Rein from its equations, SciPy's matching, AdamW. How
it is measured: `rein_jax.bench.interleaved`. Both sides compute in the same precision: fp32 (on a GPU with the TF32 products that JAX uses
there by default), or bf16 with the loss in fp32.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from rein_jax.bench.interleaved import REIN, take_turns, timed
from rein_jax.bench.machine import cores, peak_device_mb

TWIN = Path(__file__).parents[2] / "benchmarks" / "step_torch.py"
MODES = ("forward", "step")


def main(argv: list[str]) -> dict[str, Any]:
    """Runs the benchmark and returns the result line."""
    given = _parser().parse_args(argv)
    if given.measure:
        return measure(given)
    found: dict[str, Any] = {"bench": "torch", "backbone": f"dinov2_{given.family}", "crop": given.crop, "batch": given.batch,
                             "precision": given.precision}
    shared = ("family", "crop", "batch", "passes", "warmup", "precision")
    sizes = [part for name in shared for part in (f"--{name}", str(getattr(given, name)))]
    for mode in given.modes:
        commands = {"ours": [*REIN, "bench", "torch", "--measure", mode, "--remat", given.remat, *sizes]}
        for name, extra in {"torch": [], "torch_compiled": ["--compile"]}.items():
            if name in given.against:
                commands[name] = [sys.executable, str(TWIN), "--mode", mode, "--threads", str(cores()), *sizes, *extra]
        found[mode] = take_turns(commands, given.rounds)
    return found


def _parser() -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser("rein bench torch", description=__doc__, allow_abbrev=False)
    parse.add_argument("--family", default="s", choices=("s", "b", "l"), help="size of the DINOv2 (default s)")
    parse.add_argument("--crop", type=int, default=512, help="side of the crop (default 512)")
    parse.add_argument("--batch", type=int, default=1)
    parse.add_argument("--passes", type=int, default=3, help="timed passes a round (default 3)")
    parse.add_argument("--warmup", type=int, default=4, help="passes before, in which memory settles (default 4)")
    parse.add_argument("--rounds", type=int, default=2, help="turns of each library (default 2)")
    parse.add_argument("--modes", nargs="+", default=MODES, choices=MODES, help="default: both")
    parse.add_argument("--precision", default="fp32", choices=("fp32", "bf16"), help="what both sides compute in (default fp32)")
    parse.add_argument("--remat", default="none", choices=("none", "dots", "full"), help="what our backward pass recomputes")
    parse.add_argument("--against", nargs="*", default=("torch",), choices=("torch", "torch_compiled"), help="default: torch, eager")
    parse.add_argument("--measure", choices=MODES, help=argparse.SUPPRESS)
    return parse


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Our side in this process: {"seconds", "cpu_seconds", "compile_s", "peak_rss_mb", "temporary_mb", ...}."""
    import jax
    import numpy as np

    from data_pipelines.labels import CITYSCAPES
    from rein_jax import configuration
    from rein_jax.bench.infer import label
    from rein_jax.bench.step import Prepared
    from rein_jax.build import abstract_params
    from rein_jax.precision import policy

    config = configuration.load(f"configs/rein_dinov2_gta.py:backbone=dinov2_{given.family}", (
        f"train.batch={given.batch}", f"backbone.remat={given.remat}", f"backbone.image_size={given.crop}",
        f"data.crop=({given.crop},{given.crop})", f"precision={given.precision}"))
    if given.measure == "step":
        run = Prepared(config)
        program, compile_s, once = run.program, run.compile_seconds, lambda: jax.block_until_ready(run.step())
    else:
        module_def, trainable, frozen = abstract_params(config, CITYSCAPES)
        rng = np.random.default_rng(0)  # not the initial values: making these takes more memory than the pass
        dtype = policy(given.precision).compute
        params = {n: jax.device_put((0.02 * rng.standard_normal(a.shape, np.float32)).astype(dtype))
                  for n, a in {**trainable, **frozen}.items()}
        images = rng.integers(0, 256, (given.batch, given.crop, given.crop, 3), np.uint8)
        start = time.perf_counter()
        program = label.lower(module_def, params, images).compile()
        compile_s, once = time.perf_counter() - start, lambda: np.asarray(program(params, images))
    return {**timed(once, given.passes, given.warmup), "compile_s": round(compile_s, 1), "jax": jax.__version__,
            "device": jax.devices()[0].device_kind, "peak_device_mb": peak_device_mb(),
            "temporary_mb": round(program.memory_analysis().temp_size_in_bytes / 2**20)}


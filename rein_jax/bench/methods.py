"""`rein bench methods`: step time, operations and memory of every method on one backbone, beside the frozen and the full one."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp

from rein_jax import trees
from rein_jax.bench import step as step_bench
from rein_jax.build import abstract_params, build_all
from rein_jax.configuration import METHODS, default, set_backbone, set_head, set_method
from rein_jax.configuration.training import settings
from rein_jax.errors import UserError
from rein_jax.kernels.platforms import compiling_for
from rein_jax.planning.flops import count_flops
from rein_jax.precision import policy as precision_policy
from rein_jax.registry import unknown
from rein_jax.reporting.tables import columns
from rein_jax.sharding import make_mesh
from rein_jax.training import run_metadata
from rein_jax.training.state import place_run
from rein_jax.training.step import batch_structs, make_step

DESCRIPTION = """Compile and time the training step of each method on one backbone. Forward operations are those of the backbone with its
adapters, for one image: counted from the program as written (loops by their length), and from the compiled program with the blocks
unrolled, since XLA counts a loop's body once. Weights are random: they change no speed."""


def main(argv: list[str]) -> dict[str, Any]:
    """Runs the benchmark, prints the table to stderr and returns the result line."""
    options = _parser().parse_args(argv)
    names = tuple(METHODS) if options.methods == "all" else tuple(options.methods.split(","))
    for name in names:
        if name not in METHODS:
            raise unknown(name, METHODS, "method")
    frozen = forward_flops(config_of("freeze", options))
    rows = {}
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            rows[name] = measure(config_of(name, options), options, frozen)
        except UserError as error:  # a method that this backbone cannot take
            rows[name] = {"refused": str(error)}
    print(table(rows), file=sys.stderr)
    device = jax.devices()[0]
    return {"bench": "methods", "command": "rein bench methods " + " ".join(argv), "backbone": config_of("freeze", options).backbone.name,
            "head": options.head, "crop": options.crop, "batch": options.batch, "device": device.device_kind, "jax": jax.__version__,
            "frozen_forward_flops": frozen, "methods": rows}


def _parser() -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser("rein bench methods", description=DESCRIPTION, allow_abbrev=False)
    parse.add_argument("--backbone", default="dinov2_s", help="short or registered name (default: dinov2_s)")
    parse.add_argument("--methods", default="all", metavar="A,B", help=f"default: all of {', '.join(METHODS)}")
    parse.add_argument("--head", default="semantic_fpn", help="semantic_fpn (default), mask2former or linear")
    parse.add_argument("--crop", type=int, default=512, help="side of the crops (default 512)")
    parse.add_argument("--batch", type=int, default=4, help="images a step (default 4)")
    parse.add_argument("--steps", type=int, default=5, help="steps that are timed (default 5)")
    parse.add_argument("--warmup", type=int, default=1, help="steps before (default 1)")
    parse.add_argument("--remat", default="none", help="recomputation in the backward pass: none, dots, full")
    parse.add_argument("--precision", default="auto", help="fp32, bf16 or auto")
    parse.add_argument("--no-run", action="store_true", help="compile the steps and run none")
    parse.add_argument("--no-compile", action="store_true", help="count operations and parameters only")
    return parse


def config_of(method: str, options: argparse.Namespace):
    """The config of one method."""
    config = default()
    config.name = f"bench-{method}"
    set_backbone(config, options.backbone, options.crop)
    set_method(config, method)
    set_head(config, options.head)
    config.backbone.weights, config.backbone.remat, config.precision = "random", options.remat, options.precision
    config.data.crop, config.train.batch = (options.crop, options.crop), options.batch
    return config


def measure(config, options: argparse.Namespace, frozen: float) -> dict[str, Any]:
    """The numbers of one method."""
    components = build_all(config, abstract=True)
    inside = {n: a for n, a in components.trainable.items() if not n.startswith("head/")}
    flops = forward_flops(config)
    row: dict[str, Any] = {"trained_in_backbone": trees.count(inside), "forward_flops": flops, "forward_ratio": flops / frozen}
    if options.no_compile:
        return row
    row["compiled_forward_flops"] = compiled_forward_flops(config)
    if options.no_run:
        return row | compile_step(config, components)
    found = step_bench.measure(config, steps=options.steps, warmup=options.warmup)
    return row | {
        "step_seconds": found["step_seconds"], "step_seconds_spread": found["step_seconds_spread"], "step_flops": found["flops_per_step"],
        "compile_seconds": found["compile_seconds"], "argument_bytes": found["argument_bytes"],
        "temporary_bytes": found["temporary_bytes"], "peak_device_bytes": found["peak_device_bytes"], "mfu": found["mfu"],
    }  # fmt: skip


def forward_flops(config) -> float:
    """Operations of the backbone with its adapters for one image of the config's crop, object queries included."""
    return count_flops(*_forward(config))


def compiled_forward_flops(config) -> float:
    """The same from the compiled program, without the loops whose bodies XLA counts once (over blocks, and a CPU's over components of the
    attention); element-wise operations included."""
    config = config.copy_and_resolve_references()
    config.backbone.unroll = True
    function, *arguments = _forward(config)
    with compiling_for("tpu"):
        lowered = jax.jit(function).lower(*arguments)
    cost = lowered.compile().cost_analysis()
    return (cost[0] if isinstance(cost, list) else cost)["flops"]


def _forward(config):
    """(function of parameters and one image, abstract parameters, abstract image)."""
    from data_pipelines.labels import CITYSCAPES

    module_def, trainable, frozen = abstract_params(config, CITYSCAPES)
    dtype = precision_policy(config.precision).compute
    params = {n: jax.ShapeDtypeStruct(a.shape, dtype) for n, a in {**trainable, **frozen}.items()}

    def forward(params, image):
        model = trees.merge(module_def, params)
        return model.encode(image)

    return forward, params, jax.ShapeDtypeStruct((1, *config.data.crop, 3), jnp.dtype(dtype))


def compile_step(config, components) -> dict[str, Any]:
    """Compile the training step without arrays: operations and memory."""
    plain = run_metadata.as_dict(config)
    chosen, policy, mesh = settings(plain["train"]), precision_policy(plain["precision"]), make_mesh(plain["mesh"])
    sharded = place_run(components.trainable, components.frozen, components.tx, policy, mesh, run_metadata.rules(plain), chosen.ema > 0,
                        wishes=components.module_def.wishes)
    step = make_step(components.module_def, components.tx, policy, mesh, sharded.shardings, schedule=components.schedule,
                     augment=components.augment,
                     **chosen.of_step())
    arguments = sharded.state, sharded.frozen, batch_structs(chosen.batch, components.crop, mesh)
    start = time.perf_counter()
    used = step.lower(*arguments).compile().memory_analysis()
    return {"compile_seconds": round(time.perf_counter() - start, 2), "step_flops": count_flops(step, *arguments),
            "argument_bytes": used.argument_size_in_bytes, "temporary_bytes": used.temp_size_in_bytes}


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The rows for the terminal; the ratio is to the frozen backbone's forward operations."""
    giga = lambda value: "" if value is None else f"{value / 1e9:.2f}"
    header = ["method", "trained", "forward GFLOP", "ratio", "compiled GFLOP", "step GFLOP", "step s", "arguments GB", "temporaries GB"]
    body = []
    for name, row in rows.items():
        if "refused" in row:
            body.append([name, "refused", *[""] * 7])
            continue
        seconds = row.get("step_seconds")
        body.append([name, f"{row['trained_in_backbone']:,}", giga(row["forward_flops"]), f"{row['forward_ratio']:.3f}",
                     *(giga(row.get(key)) for key in ("compiled_forward_flops", "step_flops")),
                     "" if seconds is None else f"{seconds:.3f}",
                     *(giga(row.get(key)) for key in ("argument_bytes", "temporary_bytes"))])  # fmt: skip
    refused = [f"{name}: {row['refused']}" for name, row in rows.items() if "refused" in row]
    return "\n".join([columns([header, *body]), *refused])

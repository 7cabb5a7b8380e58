"""`rein plan`: will this config run on that machine? Compiled ahead of time, without the machine."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from rein_jax import configuration
from rein_jax.cli import at_least, path_argument
from rein_jax.errors import UserError

DESCRIPTION = """Compile the real training and evaluation steps of a config for a TPU topology, for NVIDIA GPUs or for virtual CPU
devices, and print per chip: arguments, temporaries, whether it fits, operations, bytes accessed, communication and, for TPUs, the time that
the compiler estimates, by part of the model (docs/speed.md says what that is worth). No TPU or GPU is needed, only its compiler:
pip install 'rein-jax[tpu]' or 'rein-jax[gpu]'."""


EPILOG = """examples: rein plan configs/rein_dinov2_gta.py --topology v5e:2x2 --batch 1 --json > before.json;
rein plan --compare before.json after.json"""


def parser() -> argparse.ArgumentParser:
    """The command's own options."""
    parse = argparse.ArgumentParser("rein plan", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    parse.add_argument("config", metavar="CONFIG", nargs="?", help="config file, packaged config or config.json")
    parse.add_argument("--topology", action="append", metavar="NAME",
                       help="v5e:16x16, v6e:2x4, v5p:2x2x1, h100:8, h100:4x8 (hosts x GPUs), a100:8, h200:1, b200:8, cpu:8; repeatable")
    parse.add_argument("--batch", type=at_least(1), metavar="N", help="images per chip (default: train.batch over the chips)")
    parse.add_argument("--largest", action="store_true", help="also find the largest batch per chip that fits")
    parse.add_argument("--no-eval", action="store_true", help="the training step only")
    parse.add_argument("--json", action="store_true", help="one JSON line per topology instead of the table")
    parse.add_argument("--compare", nargs=2, type=path_argument, metavar=("A", "B"),
                       help="nothing is compiled: two files that --json wrote, side by side")
    return parse


def main(argv: list[str]) -> int:
    """Exit code: 0, also if something does not fit."""
    overrides, rest = configuration.split_overrides(argv)
    parse = parser()
    options = parse.parse_args(rest)
    if options.compare:
        print(side_by_side(*map(_plans, options.compare)))
        return 0
    if not options.config or not options.topology:
        parse.error("give a CONFIG and at least one --topology, or --compare with two files")
    config = configuration.load(options.config, overrides)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the compilers for TPUs and GPUs are reached without their platforms
    virtual = max((int(name[4:]) for name in options.topology if name[:4] == "cpu:" and name[4:].isdigit()), default=1)
    import jax

    jax.config.update("jax_num_cpu_devices", virtual)
    from rein_jax.planning.plan import plan

    for topology in options.topology:
        found = plan(config, topology, batch=options.batch, largest=options.largest, evaluate=not options.no_eval,
                     say=lambda text: print(text, file=sys.stderr, flush=True))
        print(json.dumps(found) if options.json else table(found), flush=True)
    return 0


def table(found: dict[str, Any]) -> str:
    """The numbers of one topology for people."""
    from rein_jax.training.memory import size

    lines = [f"{found['topology']}: {found['chips']} chip(s), mesh {found['mesh']}, {found['sharding']}, {found['compute']}; "
             f"{found['trainable']:,} trainable and {found['frozen']:,} frozen parameters"]
    for what in ("train", "evaluate"):
        if what in found:
            lines += [f"  {what}: {line}" for line in _rows(found[what], found["hbm_bytes"], size)]
    if "largest_batch_per_chip" in found:
        lines.append(f"  largest batch that fits: {found['largest_batch_per_chip']} image(s) per chip")
    return "\n".join(lines)


def side_by_side(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> str:
    """Two lists of plans as a table, paired in their order."""
    from rein_jax.planning.chart import compare

    return "\n".join(line for a, b in zip(before, after, strict=False)
                     for line in (f"{a['topology']} -> {b['topology']}", *compare(a, b)))


def _plans(path: str) -> list[dict[str, Any]]:
    """The plans in a file that --json wrote."""
    try:
        found = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as plans ({error}); give a file that `rein plan --json` wrote.") from None
    if not found or not all(isinstance(plan, dict) and "topology" in plan for plan in found):
        raise UserError(f"{path} holds no plans; give a file that `rein plan --json` wrote.")
    return found


def _rows(row: dict[str, Any], limit: int | None, size) -> list[str]:
    from rein_jax.planning.chart import chart
    from rein_jax.planning.collectives import describe

    images = f"{row['images_per_chip']} image(s) per chip"
    if "peak_bytes" not in row:
        return [f"{images}: does NOT fit ({row['needs']})"]
    fits = "" if limit is None else f"; fits with {size(row['spare_bytes'])} to spare" if row["fits"] else "; does NOT fit"
    once = row["bytes_accessed_once"]
    return [f"{images}: {size(row['argument_bytes'])} arguments + {size(row['temporary_bytes'])} temporaries, "
            f"peak {size(row['peak_bytes'])}{fits}",
            f"{row['flops'] / 1e9:.1f} GFLOP" + (f", {size(once)} accessed (loop bodies counted once)" if once else "")
            + f"; compiled in {row['compile_seconds']} s",
            f"communication: {describe(row['collectives'])}",
            *(chart(row["estimate"]) if "estimate" in row else ())]

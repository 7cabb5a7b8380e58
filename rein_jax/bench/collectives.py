"""`rein bench collectives`: what the devices send each other in one training step, read from the compiled program."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import jax

from rein_jax import configuration
from rein_jax.components import TrainComponents
from rein_jax.planning import plan as planning
from rein_jax.planning.collectives import total_bytes


def main(argv: list[str], build: Callable[..., TrainComponents] | None = None) -> dict[str, Any]:
    """Compiles the step on virtual CPU devices (or --topology) and returns the result line."""
    overrides, rest = configuration.split_overrides(argv)
    options = _parser().parse_args(rest)
    if options.topology.startswith("cpu:"):
        jax.config.update("jax_num_cpu_devices", int(options.topology[4:]))
    config = configuration.load(options.config, overrides)
    return measure(config, options.topology, options.batch, build, "rein bench collectives " + " ".join(argv))


def _parser() -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser("rein bench collectives", description=__doc__, allow_abbrev=False)
    parse.add_argument("--config", default="configs/quickstart.py", help="config file (default: the quick start)")
    parse.add_argument("--topology", default="cpu:8", help="cpu:8 (default) or a TPU topology such as v5e:2x2")
    parse.add_argument("--batch", type=int, default=1, help="images per device")
    return parse


def measure(config: Any, topology: str, batch: int = 1, build: Callable[..., TrainComponents] | None = None,
            command: str = "") -> dict[str, Any]:
    """Bytes by kind of collective, beside the bytes of the trainable and the frozen leaves (fp32)."""
    found = planning.plan(config, topology, build=build, batch=batch, evaluate=False, say=lambda text: None)
    sent = found["train"].get("collectives", {})
    reduced = sent.get("all-reduce", {"bytes": 0})["bytes"]
    return {"bench": "collectives", "command": command, "topology": topology, "mesh": found["mesh"], "sharding": found["sharding"],
            "images_per_device": batch, "collectives": sent, "total_bytes": total_bytes(sent),
            "trainable": found["trainable"], "frozen": found["frozen"], "trainable_bytes": 4 * found["trainable"],
            "all_reduce_over_trainable": reduced / max(1, 4 * found["trainable"]), "temporary_bytes": found["train"].get("temporary_bytes"),
            "jax": jax.__version__}

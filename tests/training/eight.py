"""Run in a process of its own with 8 virtual CPU devices: trains the stand-in on several meshes; prints one JSON line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jax
import numpy as np
from stand_in import make_components

from rein_jax import sharding
from rein_jax.bench import collectives
from rein_jax.precision import policy
from rein_jax.training.checkpoint import Checkpoints
from rein_jax.training.state import place_run
from rein_jax.training.step import make_step

STEPS, BATCH = 3, 16
CONFIG = {"seed": 0, "train": {"steps": STEPS, "batch": BATCH}}


def setup(shape: dict, rules: str, devices: int = 8, accumulate: int = 1, full: bool = True, drop: float = 0.1):
    """(state and frozen placed on a mesh, step, mesh, batches) of the stand-in; full: everything trains."""
    components = make_components(CONFIG, width=16, drop=drop)
    if full:
        components.trainable, components.frozen = {**components.trainable, **components.frozen}, {}
    mesh = sharding.make_mesh(shape, jax.devices()[:devices])
    fp32 = policy("fp32")
    sharded = place_run(components.trainable, components.frozen, components.tx, fp32, mesh, rules, wishes=components.module_def.wishes)
    step = make_step(components.module_def, components.tx, fp32, mesh, sharded.shardings, schedule=components.schedule,
                     accumulate=accumulate)
    return sharded, step, mesh, components.batches(0, 0, 1)


def run(steps: int = STEPS, **options):
    """Losses and final weights after some steps."""
    sharded, step, mesh, batches = setup(**options)
    losses = []
    for _ in range(steps):
        batch = next(batches)
        batch.pop("name")
        sharded.state, metrics = step(sharded.state, sharded.frozen, sharding.place_batch(batch, mesh))
        losses.append(float(metrics["loss"]))
    weights = np.concatenate([np.asarray(sharded.state.trainable[name]).ravel() for name in sorted(sharded.state.trainable)])
    return losses, weights, sharded


def distance(ours, theirs) -> tuple[float, float]:
    """(largest relative difference of the losses, largest of an array's weights relative to that array's maximum).

    Not relative to each weight: where steps of 0.05 cancel to almost nothing, float32 leaves 1e-8 of what cancelled.
    """
    losses, others = np.asarray(ours[0]), np.asarray(theirs[0])
    trained, reference = ours[2].state.trainable, theirs[2].state.trainable
    apart = [np.abs(np.asarray(trained[n]) - np.asarray(a)).max() / np.abs(np.asarray(a)).max() for n, a in reference.items()]
    return float(np.max(np.abs(losses - others) / np.abs(others))), float(max(apart))


def checkpoints(folder: Path, weights, sharded) -> dict[str, bool]:
    """Saved on 8 devices, restored on 1 and on 4x2: are the arrays bit-equal and sharded as asked?"""
    store = Checkpoints(folder)
    store.save(STEPS, sharded.state, {"config": CONFIG})
    store.wait()
    out = {}
    for name, options in {"1": dict(shape={"data": 1}, rules="dp", devices=1), "4x2": dict(shape={"data": 4, "fsdp": 2}, rules="fsdp"),
                          "8": dict(shape={"data": 8}, rules="dp")}.items():
        like = setup(**options)[0].state
        state, _ = store.restore(like)
        found = np.concatenate([np.asarray(state.trainable[n]).ravel() for n in sorted(state.trainable)])
        same_place = all(jax.tree.leaves(jax.tree.map(lambda a, b: a.sharding == b.sharding, state, like)))
        out[name] = bool(np.array_equal(found, weights) and same_place and int(state.step) == STEPS)
    store.close()
    return out


def main(folder: Path) -> dict:
    sharding.SPLIT_FROM = 64  # the stand-in's arrays are small
    one = run(shape={"data": 1}, rules="dp", devices=1)
    eight = run(shape={"data": 8}, rules="dp")
    split = run(shape={"data": 2, "fsdp": 4}, rules="fsdp")
    frozen = run(shape={"data": -1, "fsdp": 8}, rules="fsdp", full=False, drop=0.0, steps=1)
    micro = run(shape={"data": 4}, rules="dp", devices=4, accumulate=4, full=False, drop=0.0, steps=1)
    specs = {name: str(array.sharding.spec) for name, array in split[2].state.trainable.items()}
    return {
        "eight": distance(eight, one), "fsdp": distance(split, one), "accumulated": distance(micro, frozen),
        "specs": specs,
        "scale": collectives.measure(CONFIG, "cpu:8", 2, build=lambda config, abstract: make_components(config, width=16)),
        "moments_follow": _moments_follow(split[2].state),
        "checkpoints": checkpoints(folder, split[1], split[2]),
    }


def _moments_follow(state) -> bool:
    """Do Adam's moments live where their parameter lives?"""
    moments = state.opt_state[0]
    return all(moments.mu[name].sharding == array.sharding == moments.nu[name].sharding for name, array in state.trainable.items())


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))

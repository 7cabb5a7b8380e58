"""A memory plan before anything is compiled: what each device will hold, and what to change when it does not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np

HBM = {"v4": 32, "v5e": 16, "v5p": 95, "v6e": 32}  # GiB per TPU chip
_KINDS = {"TPU v4": "v4", "TPU v5 lite": "v5e", "TPU v5e": "v5e", "TPU v5p": "v5p", "TPU v5": "v5p", "TPU v6 lite": "v6e", "TPU v6e": "v6e"}


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes per device. activations: what the backward pass keeps of the forward pass, an estimate from the traced loss."""

    frozen: int
    trainable: int
    moments: int
    average: int
    gradients: int
    batch: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(asdict(self).values())

    def text(self, limit: int | None = None) -> str:
        """One line for the log."""
        rows = ", ".join(f"{name} {size(value)}" for name, value in asdict(self).items() if value)
        return f"memory plan per device: {rows}; about {size(self.total)}" + (f" of {size(limit)}" if limit else "")


def size(value: float) -> str:
    """1536 -> "1.5 KiB"."""
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.2f} GiB"


def on_device(tree: Any) -> int:
    """Bytes of a placed (or abstract and sharded) tree on one device."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        sharding = getattr(leaf, "sharding", None)
        shape = sharding.shard_shape(leaf.shape) if sharding is not None else leaf.shape
        total += int(np.prod(shape)) * np.dtype(leaf.dtype).itemsize
    return total


def plan(state: Any, frozen: Any, batch: Mapping[str, Any], loss: Callable | None, devices: int, accumulate: int = 1) -> MemoryPlan:
    """The plan of a run. loss(trainable, frozen, batch) -> scalar is traced, not run; None leaves activations at 0."""
    trainable = on_device(state.trainable)
    kept = kept_bytes(loss, state.trainable, frozen, batch) // (devices * accumulate) if loss is not None else 0
    return MemoryPlan(on_device(frozen), trainable, on_device(state.opt_state), on_device(state.ema), trainable, on_device(batch), kept)


def kept_bytes(loss: Callable, trainable: Any, frozen: Any, batch: Any) -> int:
    """Bytes of what differentiating keeps between the forward and the backward pass, over all devices, parameters aside."""
    def backward(trainable, frozen, batch):
        inputs = {id(leaf) for leaf in jax.tree.leaves((trainable, frozen, batch))}
        _, pullback = jax.vjp(lambda leaves: loss(leaves, frozen, batch), trainable)
        return [leaf for leaf in jax.tree.leaves(pullback) if id(leaf) not in inputs]

    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (trainable, frozen, dict(batch)))
    return on_device(jax.eval_shape(backward, *shapes))


def limit_of(device: Any) -> int | None:
    """Bytes a device can give, or None where nobody says (virtual CPU devices)."""
    stats = device.memory_stats() if hasattr(device, "memory_stats") and device.platform != "cpu" else None
    if stats and stats.get("bytes_limit"):
        return int(stats["bytes_limit"])
    known = _KINDS.get(getattr(device, "device_kind", ""))
    return HBM[known] * 2**30 if known else None


def advice(found: MemoryPlan, limit: int | None, config: Mapping[str, Any]) -> list[str]:
    """What to change, most useful first; empty when it fits (or when the limit is not known)."""
    if not limit or found.total <= limit:
        return []
    remat = (config.get("backbone") or {}).get("remat", "full")
    tips = [f"About {size(found.total)} per device will not fit into {size(limit)}."]
    if found.activations > limit // 4 and remat != "full":
        tips.append(f"Recompute activations: backbone.remat=full (now {remat!r}).")
    if config.get("sharding", "dp") == "dp" and found.frozen + found.trainable + found.moments > limit // 4:
        tips.append("Split the weights: sharding=fsdp with mesh.fsdp set to the number of devices.")
    if found.activations + found.batch > limit // 4:
        tips.append("Take fewer images at once: a smaller train.batch, a larger train.accumulate, or more devices.")
    if config.get("precision") == "fp32":
        tips.append("Compute in bf16: precision=bf16.")
    return tips

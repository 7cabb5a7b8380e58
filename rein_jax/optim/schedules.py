"""Learning rates and weight decay by the step of a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from rein_jax.registry import unknown

Schedule = Callable[[Any], jax.Array]

# name -> share of the learning rate, by the share of the way that is left (from 1 to 0) and `optim.power`.
SHAPES: dict[str, Callable[[jax.Array, float], jax.Array]] = {
    "poly": lambda left, power: left**power,
    "linear": lambda left, power: left,
    "cosine": lambda left, power: (1 - jnp.cos(jnp.pi * left)) / 2,
    "constant": lambda left, power: jnp.ones_like(left),
}


def _shape(name: str, power: float) -> Callable[[jax.Array], jax.Array]:
    if name not in SHAPES:
        raise unknown(name, SHAPES, "optim.schedule")
    return partial(SHAPES[name], power=power)


def poly_schedule(lr: float, steps: int, *, power: float = 0.9, end: float = 0.0, warmup_steps: int = 0,
                  warmup_factor: float = 1e-6, name: str = "poly") -> Schedule:
    """Learning rate of 0-based step t (mmengine's LinearLR then PolyLR; `name`: another curve of `SHAPES` in PolyLR's place).

    Warm-up, t < w: lr * (factor + (1 - factor) * t / (w - 1)). Then end + (lr - end) * (1 - (t - w) / (steps - w - 1))^power:
    the denominator is one less than the number of steps, so that the last step's rate is exactly `end`.
    """
    last = max(steps - warmup_steps - 1, 1)
    shape = _shape(name, power)

    def schedule(step) -> jax.Array:
        step = jnp.asarray(step)
        left = jnp.clip(steps - 1 - step, 0, last)  # integers: exact where float32 would cancel
        value = end + (lr - end) * shape(left / last)
        if warmup_steps:
            ramp = warmup_factor + (1 - warmup_factor) * jnp.minimum(step / max(warmup_steps - 1, 1), 1.0)
            value = jnp.where(step < warmup_steps, lr * ramp, value)
        return value

    return schedule


def two_stage_schedule(lr: float, steps: int, *, power: float = 0.9, wait: int = 0, warmup_steps: int = 0, name: str = "poly") -> Schedule:
    """EoMT's learning rate of 0-based step t: zero while t < wait, then warm-up by t / warmup_steps of it, then
    lr * (1 - t / (steps - wait - warmup_steps))^power; each t counted from the end of what precedes. `name` as in `poly_schedule`."""
    begin = wait + warmup_steps
    shape = _shape(name, power)

    def schedule(step) -> jax.Array:
        step = jnp.asarray(step)
        left = jnp.clip(steps - step, 0, max(1, steps - begin)) / max(1, steps - begin)
        ramp = jnp.maximum(step - wait, 0) / max(1, warmup_steps)
        return jnp.where(step < begin, lr * ramp, lr * shape(left))

    return schedule


def cosine_decay(start: float, end: float | None, steps: int) -> Schedule:
    """Weight decay of step t: end + (start - end) * (1 + cos(pi t / steps)) / 2 (SoMA's annealing), or constant without `end`."""
    if end is None:
        return lambda step: jnp.float32(start)
    return lambda step: end + (start - end) * (1 + jnp.cos(jnp.pi * jnp.minimum(jnp.asarray(step), steps) / steps)) / 2

"""Optimizers by name: which way a parameter goes (optax's transformations), then one rule for decay and learning rate.

    update = -rate(t) * factor * (direction + decay(t) * parameter)

All but the exact AdamW are optax's own, without its learning rate and decay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rein_jax.optim.schedules import Schedule
from rein_jax.trees import PLAIN, Wishes

Arrays = Mapping[str, Any]


@dataclass(frozen=True)
class Pace:
    """For every parameter by name: learning rate, weight decay (both by the step) and factor on the rate."""

    rates: Mapping[str, Schedule]
    decays: Mapping[str, Schedule]
    factors: Mapping[str, Any]

    def updates(self, directions: Arrays, params: Arrays, count: jax.Array, ratio: Callable | None = None) -> dict[str, jax.Array]:
        """Steps against the directions; ratio(name, direction with decay, parameter): the last word on a direction (LAMB)."""
        lr = {rate: rate(count) for rate in set(self.rates.values())}

        def one(name):
            direction = directions[name] + self.decays[name](count) * params[name]
            direction = direction if ratio is None else ratio(name, direction, params[name])
            return (-lr[self.rates[name]] * self.factors[name] * direction).astype(params[name].dtype)

        return {name: one(name) for name in directions}


def adamw(pace: Pace, wishes: Mapping[str, Wishes], *, betas=(0.9, 0.999), eps: float = 1e-8) -> optax.GradientTransformation:
    """torch's AdamW: the direction is m / (sqrt(v) + eps), both moments without bias.

    optax.adamw takes 1 - beta^t in float32, which is off by 1e-5 in the first steps: all updates are wrong together by that
    much, enough to part from the original's trajectory within a few steps. Here it keeps float32's full accuracy.
    """
    b1, b2 = betas

    def init(params):
        return optax.ScaleByAdamState(jnp.zeros([], jnp.int32), *({n: jnp.zeros_like(p) for n, p in params.items()} for _ in "mv"))

    def update(grads, state, params):
        count = optax.safe_increment(state.count)
        mu = {n: b1 * state.mu[n] + (1 - b1) * g for n, g in grads.items()}
        nu = {n: b2 * state.nu[n] + (1 - b2) * g * g for n, g in grads.items()}
        first, second = _one_minus_power(b1, count), jnp.sqrt(_one_minus_power(b2, count))
        directions = {n: (mu[n] / first) / (jnp.sqrt(nu[n]) / second + eps) for n in grads}
        return pace.updates(directions, params, state.count), optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def _one_minus_power(beta: float, count: jax.Array) -> jax.Array:
    """1 - beta^count without cancellation."""
    return -jnp.expm1(count * math.log(beta)) if beta > 0 else jnp.ones([], jnp.float32)


def adam(pace: Pace, wishes: Mapping[str, Wishes], *, betas=(0.9, 0.999), eps: float = 1e-8) -> optax.GradientTransformation:
    """optax.adam; decay apart from the gradient, as in optax.adamw."""
    return _paced(optax.scale_by_adam(*betas, eps), pace)


def lion(pace: Pace, wishes: Mapping[str, Wishes], *, betas=(0.9, 0.99)) -> optax.GradientTransformation:
    """optax.lion: the sign of the momentum. Its authors take a third to a tenth of AdamW's learning rate, and as much more decay."""
    return _paced(optax.scale_by_lion(*betas), pace)


def sgd(pace: Pace, wishes: Mapping[str, Wishes], *, momentum: float = 0.9) -> optax.GradientTransformation:
    """optax.sgd."""
    return _paced(optax.trace(momentum), pace)


def lamb(pace: Pace, wishes: Mapping[str, Wishes], *, betas=(0.9, 0.999), eps: float = 1e-6) -> optax.GradientTransformation:
    """optax.lamb: Adam with a step in proportion to the parameter's norm; in a stack each layer has its own."""
    trust = optax.scale_by_trust_ratio()

    def ratio(name, direction, param):
        one = lambda d, p: trust.update(d, optax.EmptyState(), p)[0]
        for _ in range(wishes.get(name, PLAIN).stacked):
            one = jax.vmap(one)
        return one(direction, param)

    return _paced(optax.scale_by_adam(*betas, eps), pace, ratio)


def muon(pace: Pace, wishes: Mapping[str, Wishes], *, betas=(0.9, 0.999), eps: float = 1e-8,
         momentum: float = 0.95) -> optax.GradientTransformation:
    """optax.contrib.muon for matrices (in a stack each layer is one), and its Adam for all else, to which `betas` belong.

    Updates have AdamW's size (consistent_rms 0.2, Liu et al. 2025), so that AdamW's learning rates and decay serve both.
    """

    def matrices(params):
        axes = optax.contrib.MuonDimensionNumbers(-2, -1)
        ndim = lambda p: len(getattr(p, "shape", ()))  # optax hides from each part the arrays of the other
        return {n: axes if ndim(p) - wishes.get(n, PLAIN).stacked == 2 else None for n, p in params.items()}

    direction = optax.contrib.muon(1.0, beta=momentum, eps=eps, adam_b1=betas[0], adam_b2=betas[1], consistent_rms=0.2,
                                   muon_weight_dimension_numbers=matrices)
    return _paced(optax.chain(direction, optax.scale(-1.0)), pace)


def _paced(direction: optax.GradientTransformation, pace: Pace, ratio: Callable | None = None) -> optax.GradientTransformation:
    def init(params):
        return optax.ScaleByScheduleState(jnp.zeros([], jnp.int32))

    def update(directions, state, params):
        return pace.updates(directions, params, state.count, ratio), optax.ScaleByScheduleState(optax.safe_increment(state.count))

    return optax.chain(direction, optax.GradientTransformation(init, update))


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {f.__name__: f for f in (adamw, adam, lion, muon, sgd, lamb)}

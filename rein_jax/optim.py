"""AdamW, learning-rate schedules, and which parameters decay.

Every trainable parameter belongs to the first `Group` whose pattern matches its path name. The presets restate the
published recipes' rules (mmengine's `paramwise_cfg`) for our names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rein_jax import trees
from rein_jax.errors import UserError
from rein_jax.registry import unknown

Schedule = Callable[[Any], jax.Array]


@dataclass(frozen=True)
class Group:
    """Parameters whose name `pattern` matches from the start: factors on weight decay and learning rate.

    optional: the pattern may match nothing (presets serve several heads and adapters at once).
    """

    pattern: str
    decay: float = 1.0
    lr: float = 1.0
    optional: bool = False


def _undecayed(*patterns: str) -> tuple[Group, ...]:
    return tuple(Group(pattern, decay=0.0, optional=True) for pattern in patterns)


_NORM = r"(norm|bn\d?/|ffn_ln/|ln_pre/)"  # in the name of every layer, group and batch norm
_NORMS = _undecayed(".*" + _NORM)
_REIN = _undecayed(r"adapters/\d+/layers/tokens(_a|_b)?$")
_REST = (Group(".*"),)
_ORIGINAL = (*_NORMS, *_undecayed(r"head/(query_embed|level_embed)$"))
_SOMA = tuple(Group(group.pattern, decay=0.0, lr=0.5, optional=True) for group in _undecayed("(adapters|backbone)/.*" + _NORM))

# Biases, level_encoding and learned query_feat do decay in the original; they are left to the last group on purpose.
PRESETS: dict[str, tuple[Group, ...]] = {
    "rein_512": (*_ORIGINAL, *_REIN, *_undecayed(r"adapters/0/scale$"), *_REST),
    "rein_1024": (*_ORIGINAL, *_REIN, *_undecayed(r"adapters/0/scale$"), *_REST),
    # One Rein a stage: the original's key "reins.scale" does not occur in "reins.0.scale", so the scales decay.
    "rein_cnn": (*_ORIGINAL, *_REIN, *_REST),
    "full_512": (*_ORIGINAL, *_REST),
    # The paper's text, unlike its shipped config, gives the backbone a tenth of the learning rate.
    "full_paper": (Group("backbone/.*" + _NORM, decay=0.0, lr=0.1, optional=True), Group("backbone/", lr=0.1), *_ORIGINAL, *_REST),
    "eomt": _REST,
    "frozen_512": (*_ORIGINAL, *_undecayed(r"head/query_feat$"), *_REST),
    "recyclelora": (Group("adapters/.*_sub_", decay=0.0, lr=0.5, optional=True), Group("adapters/", decay=0.0), *_ORIGINAL,
                    *_undecayed(r"head/query_feat$"), *_REST),
    "soma": (*_SOMA, Group("(adapters|backbone)/", lr=0.5), *_ORIGINAL, *_undecayed(r"head/query_feat$"), *_REST),
}


@dataclass(frozen=True)
class OptimConfig:
    """What `config.optim` may hold.

    steps: length of the schedule; warmup_steps: linear warm-up from lr * warmup_factor, after which the polynomial
    decay to lr_end begins (it begins at step 0 without warm-up). decay_end: weight decay falls along a cosine to this
    value (SoMA: 1e-5); None keeps it. clip: largest global gradient norm, None for no clipping.
    groups: name of a preset, or rows (pattern, decay[, lr[, optional]]) tried in order. backbone_lr, adapter_lr: further
    factors on the learning rate of everything under backbone/ and adapters/. layer_decay: a further factor on each block of the
    backbone for every block behind it, what stands before the blocks having the first one's (EoMT: 0.8; plain ViTs). backbone_warmup: the
    backbone waits until the head's warm-up has ended, then has this many steps of its own (see `two_stage_schedule`, which then holds
    for the head too); 0 for one schedule.
    """

    steps: int
    lr: float = 1e-4
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    power: float = 0.9
    lr_end: float = 0.0
    warmup_steps: int = 0
    warmup_factor: float = 1e-6
    decay_end: float | None = None
    clip: float | None = None
    groups: str | tuple = "rein_512"
    backbone_lr: float = 1.0
    adapter_lr: float = 1.0
    layer_decay: float = 1.0
    backbone_warmup: int = 0

    def __post_init__(self):
        if self.steps < 1 or not 0 <= self.warmup_steps < self.steps:
            raise UserError(f"optim.warmup_steps ({self.warmup_steps}) must be at least 0 and below optim.steps ({self.steps}).")
        if not 0 <= self.backbone_warmup < self.steps - self.warmup_steps:
            raise UserError(f"optim.backbone_warmup ({self.backbone_warmup}) must be at least 0, and with optim.warmup_steps "
                            f"({self.warmup_steps}) below optim.steps ({self.steps}).")
        for name in ("lr", "weight_decay", "eps", "backbone_lr", "adapter_lr", "layer_decay"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"optim.{name} is {getattr(self, name)}; it must be a number of at least 0.")


def poly_schedule(lr: float, steps: int, *, power: float = 0.9, end: float = 0.0, warmup_steps: int = 0,
                  warmup_factor: float = 1e-6) -> Schedule:
    """Learning rate of 0-based step t (mmengine's LinearLR then PolyLR).

    Warm-up, t < w: lr * (factor + (1 - factor) * t / (w - 1)). Then end + (lr - end) * (1 - (t - w) / (steps - w - 1))^power:
    the denominator is one less than the number of steps, so that the last step's rate is exactly `end`.
    """
    last = max(steps - warmup_steps - 1, 1)

    def schedule(step) -> jax.Array:
        step = jnp.asarray(step)
        left = jnp.clip(steps - 1 - step, 0, last)  # integers: exact where float32 would cancel
        value = end + (lr - end) * (left / last) ** power
        if warmup_steps:
            ramp = warmup_factor + (1 - warmup_factor) * jnp.minimum(step / max(warmup_steps - 1, 1), 1.0)
            value = jnp.where(step < warmup_steps, lr * ramp, value)
        return value

    return schedule


def two_stage_schedule(lr: float, steps: int, *, power: float = 0.9, wait: int = 0, warmup_steps: int = 0) -> Schedule:
    """EoMT's learning rate of 0-based step t: zero while t < wait, then warm-up by t / warmup_steps of it, then
    lr * (1 - t / (steps - wait - warmup_steps))^power; each t counted from the end of what precedes."""
    begin = wait + warmup_steps

    def schedule(step) -> jax.Array:
        step = jnp.asarray(step)
        left = jnp.clip(steps - step, 0, max(1, steps - begin)) / max(1, steps - begin)
        ramp = jnp.maximum(step - wait, 0) / max(1, warmup_steps)
        return jnp.where(step < begin, lr * ramp, lr * left**power)

    return schedule


def layer_factors(decay: float, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The factor of `layer_decay` on each parameter: a number, or for stacked blocks one for each, to be multiplied with the array."""
    if decay == 1:
        return dict.fromkeys(arrays, 1.0)
    depth = max((a.shape[0] for name, a in arrays.items() if name.startswith("backbone/blocks/")), default=1)
    if depth == 1 or any(re.match(r"backbone/blocks/\d", name) for name in arrays):  # SAM and ConvNeXt keep theirs in several stacks
        raise UserError(f"optim.layer_decay is {decay}, but no blocks of a plain ViT are trained; set it to 1.")
    blocks = (decay ** np.arange(depth - 1, -1, -1, dtype=np.float64)).astype(np.float32)

    def one(name, array):
        if name.startswith("backbone/blocks/"):
            return blocks.reshape(depth, *(1,) * (len(array.shape) - 1))
        before = name.startswith("backbone/") and not name.startswith("backbone/norm/")
        return decay ** (depth - 1) if before else 1.0

    return {name: one(name, array) for name, array in arrays.items()}


def cosine_decay(start: float, end: float | None, steps: int) -> Schedule:
    """Weight decay of step t: end + (start - end) * (1 + cos(pi t / steps)) / 2 (SoMA's annealing), or constant without `end`."""
    if end is None:
        return lambda step: jnp.float32(start)
    return lambda step: end + (start - end) * (1 + jnp.cos(jnp.pi * jnp.minimum(jnp.asarray(step), steps) / steps)) / 2


def assign_groups(groups: str | Sequence, names: Sequence[str]) -> dict[str, Group]:
    """{name: the group it belongs to}; an uncovered name, or a group that is not optional and matches nothing, is a UserError."""
    if isinstance(groups, str) and groups not in PRESETS:
        raise unknown(groups, PRESETS, "optim.groups preset")
    rows = PRESETS[groups] if isinstance(groups, str) else tuple(_group(row) for row in groups)
    first = {next((i for i, row in enumerate(rows) if re.match(row.pattern, name)), None) for name in names}
    used = [row for i, row in enumerate(rows) if i in first or not row.optional]
    return trees.first_match([(row.pattern, row) for row in used], names)


def _group(row: Any) -> Group:
    try:
        group = row if isinstance(row, Group) else Group(*row)
        re.compile(group.pattern)
    except (TypeError, re.error) as error:
        raise UserError(f"The row {row!r} of optim.groups is not (pattern, decay[, lr[, optional]]): {error}.") from error
    return group


def adamw(rates: Mapping[str, Schedule], decays: Mapping[str, Schedule], factors: Mapping[str, Any], betas: tuple[float, float],
          eps: float) -> optax.GradientTransformation:
    """torch's AdamW for flat dicts: update = -rate(t) * factor * (m / (sqrt(v) + eps) + decay(t) * parameter).

    optax.adamw takes 1 - beta^t in float32, which is off by 1e-5 in the first steps: all updates are wrong together by that
    much, enough to part from the original's trajectory within a few steps. Here it keeps float32's full accuracy.
    """
    b1, b2 = betas

    def init(params):
        return optax.ScaleByAdamState(jnp.zeros([], jnp.int32), *({n: jnp.zeros_like(p) for n, p in params.items()} for _ in "mv"))

    def update(grads, state, params):
        count = optax.safe_increment(state.count)
        lr = {rate: rate(state.count) for rate in set(rates.values())}
        mu = {n: b1 * state.mu[n] + (1 - b1) * g for n, g in grads.items()}
        nu = {n: b2 * state.nu[n] + (1 - b2) * g * g for n, g in grads.items()}
        first, second = _one_minus_power(b1, count), jnp.sqrt(_one_minus_power(b2, count))

        def one(n):
            direction = (mu[n] / first) / (jnp.sqrt(nu[n]) / second + eps)
            return (-lr[rates[n]] * factors[n] * (direction + decays[n](state.count) * params[n])).astype(params[n].dtype)

        return {n: one(n) for n in grads}, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def _one_minus_power(beta: float, count: jax.Array) -> jax.Array:
    """1 - beta^count without cancellation."""
    return -jnp.expm1(count * math.log(beta)) if beta > 0 else jnp.ones([], jnp.float32)


def make_optimizer(config: Mapping[str, Any] | OptimConfig, arrays: Mapping[str, Any], *,
                   steps: int | None = None) -> tuple[optax.GradientTransformation, Schedule]:
    """AdamW for the trainable parameters (flat dict of arrays or shapes) -> (optax transformation, learning rate of a step).

    torch's AdamW: epsilon outside the root, decay times the current learning rate. `steps` is the length of the
    schedule where the config does not say one of its own.
    """
    if not isinstance(config, OptimConfig):
        config = _read(config, steps)
    groups = assign_groups(config.groups, list(arrays))
    rate, of_backbone = _schedules(config)
    # Annealing is per group, as in the original: a group without decay rises to `decay_end` too.
    start, end = config.weight_decay, config.decay_end
    decays = {name: cosine_decay(start * group.decay, end, config.steps) for name, group in groups.items()}
    parts = [optax.clip_by_global_norm(config.clip)] if config.clip is not None else []
    shares = {"backbone": config.backbone_lr, "adapters": config.adapter_lr}
    layered = layer_factors(config.layer_decay, arrays)
    factors = {name: group.lr * shares.get(name.partition("/")[0], 1.0) * layered[name] for name, group in groups.items()}
    rates = {name: of_backbone if name.startswith("backbone/") else rate for name in groups}
    parts.append(adamw(rates, decays, factors, config.betas, config.eps))
    return optax.chain(*parts), rate


def _schedules(config: OptimConfig) -> tuple[Schedule, Schedule]:
    """The learning rate, and the backbone's."""
    if not config.backbone_warmup:
        rate = poly_schedule(config.lr, config.steps, power=config.power, end=config.lr_end,
                             warmup_steps=config.warmup_steps, warmup_factor=config.warmup_factor)
        return rate, rate
    two_stage = partial(two_stage_schedule, config.lr, config.steps, power=config.power)
    return two_stage(warmup_steps=config.warmup_steps), two_stage(wait=config.warmup_steps, warmup_steps=config.backbone_warmup)


def _read(config: Mapping[str, Any], steps: int | None) -> OptimConfig:
    known = [field.name for field in fields(OptimConfig)]
    given = {name: config[name] for name in config}
    for name in given:
        if name not in known:
            raise unknown(name, known, "key of config.optim")
    if not given.get("steps"):
        given["steps"] = steps or 0
    return OptimConfig(**given)

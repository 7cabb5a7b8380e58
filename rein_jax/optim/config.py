"""What `config.optim` may hold."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import optax

from rein_jax.errors import UserError
from rein_jax.optim.methods import OPTIMIZERS
from rein_jax.optim.schedules import SHAPES
from rein_jax.registry import unknown


@dataclass(frozen=True)
class OptimConfig:
    """What `config.optim` may hold.

    steps: length of the schedule; warmup_steps: linear warm-up from lr * warmup_factor, after which the fall to lr_end begins (it
    begins at step 0 without warm-up). name: adamw, adam, lion, muon, sgd or lamb, or an optax.GradientTransformation over the flat
    dict of parameters, which is used as it is, without anything else said here. schedule: how the learning rate falls: poly (with the
    exponent `power`), linear, cosine or constant; None is poly, and no learning rate in the log beside a transformation of your own.
    betas, eps, momentum: the optimizer's (None: its usual ones, see `methods`). decay_end: weight decay falls along a cosine to this
    value (SoMA: 1e-5); None keeps it. clip: largest global gradient norm, None for no clipping.
    groups: name of a preset, or rows (pattern, decay[, lr[, optional]]) tried in order, decay None being what the parameter says itself;
    None: all as they say themselves. backbone_lr, adapter_lr: further
    factors on the learning rate of everything under backbone/ and adapters/. layer_decay: a further factor on each block of the
    backbone for every block behind it, what stands before the blocks having the first one's (EoMT: 0.8; plain ViTs). backbone_warmup: the
    backbone waits until the head's warm-up has ended, then has this many steps of its own (see `two_stage_schedule`, which then holds
    for the head too); 0 for one schedule.
    """

    steps: int
    lr: float = 1e-4
    weight_decay: float = 0.05
    name: str | optax.GradientTransformation = "adamw"
    schedule: str | None = None
    betas: tuple[float, float] | None = None
    eps: float | None = None
    momentum: float | None = None
    power: float = 0.9
    lr_end: float = 0.0
    warmup_steps: int = 0
    warmup_factor: float = 1e-6
    decay_end: float | None = None
    clip: float | None = None
    groups: str | tuple | None = "rein_512"
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
        for name in ("lr", "weight_decay", "eps", "momentum", "backbone_lr", "adapter_lr", "layer_decay"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise UserError(f"optim.{name} is {value}; it must be a number of at least 0.")
        if self.schedule is not None and self.schedule not in SHAPES:
            raise unknown(self.schedule, SHAPES, "optim.schedule")
        if not isinstance(self.name, optax.GradientTransformation):
            self.optimizer()

    def optimizer(self) -> tuple[Callable[..., optax.GradientTransformation], dict[str, Any]]:
        """The optimizer that `name` means, and its own options where they are given; one that it does not have is a UserError."""
        if self.name not in OPTIMIZERS:
            raise unknown(self.name, OPTIMIZERS, "optim.name")
        chosen = OPTIMIZERS[self.name]
        given = {key: getattr(self, key) for key in ("betas", "eps", "momentum") if getattr(self, key) is not None}
        for key in given:
            if key not in inspect.signature(chosen).parameters:
                having = ", ".join(sorted(name for name, one in OPTIMIZERS.items() if key in inspect.signature(one).parameters))
                raise UserError(f"optim.{key} belongs to {having}, not to optim.name={self.name}; leave it out.")
        return chosen, given


def read(config: Mapping[str, Any], steps: int | None) -> OptimConfig:
    """The section of a config; `steps` where it does not say its own."""
    known = [field.name for field in fields(OptimConfig)]
    given = {name: config[name] for name in config}
    for name in given:
        if name not in known:
            raise unknown(name, known, "key of config.optim")
    if not given.get("steps"):
        given["steps"] = steps or 0
    return OptimConfig(**given)

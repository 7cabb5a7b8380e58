"""Optimizers, learning-rate schedules, and which parameters decay: `make_optimizer` of a config, `optimizer` for your own loops."""

from rein_jax.optim.config import OptimConfig
from rein_jax.optim.groups import PRESETS, Group, assign_groups
from rein_jax.optim.make import make_optimizer, optimizer
from rein_jax.optim.methods import OPTIMIZERS
from rein_jax.optim.schedules import SHAPES, poly_schedule, two_stage_schedule

__all__ = ["OPTIMIZERS", "PRESETS", "SHAPES", "Group", "OptimConfig", "assign_groups", "make_optimizer", "optimizer", "poly_schedule",
           "two_stage_schedule"]

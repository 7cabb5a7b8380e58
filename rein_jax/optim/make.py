"""From a config to an optax transformation: over flat dicts of parameters, or over the state of an NNX module for stock loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import optax
from flax import nnx

from rein_jax import trees
from rein_jax.errors import UserError
from rein_jax.optim.config import OptimConfig, read
from rein_jax.optim.groups import assign_groups, layer_factors
from rein_jax.optim.methods import Pace
from rein_jax.optim.schedules import Schedule, cosine_decay, poly_schedule, two_stage_schedule


def make_optimizer(config: Mapping[str, Any] | OptimConfig, arrays: Mapping[str, Any], wishes: Mapping[str, trees.Wishes] | None = None, *,
                   steps: int | None = None) -> tuple[optax.GradientTransformation, Schedule | None]:
    """The optimizer of a config for the trainable parameters (flat dict of arrays or shapes), and the learning rate of a step.

    wishes: what the parameters say themselves (`ModuleDef.wishes`); None: nothing, as plain arrays. `steps` is the length of the
    schedule where the config does not say one of its own.
    Where `name` is an optax transformation it is returned as it is, with the learning rate for the log only if `schedule` is given.
    """
    if not isinstance(config, OptimConfig):
        config = read(config, steps)
    rate, of_backbone = _schedules(config)
    if isinstance(config.name, optax.GradientTransformation):
        return config.name, None if config.schedule is None else rate
    wishes = {name: (wishes or {}).get(name, trees.PLAIN) for name in arrays}
    groups = assign_groups(config.groups, wishes)
    # Annealing is per group, as in the original: a group without decay rises to `decay_end` too.
    start, end = config.weight_decay, config.decay_end
    decays = {name: cosine_decay(start * group.decay, end, config.steps) for name, group in groups.items()}
    shares = {"backbone": config.backbone_lr, "adapters": config.adapter_lr}
    layered = layer_factors(config.layer_decay, arrays)
    factors = {name: group.lr * shares.get(name.partition("/")[0], 1.0) * layered[name] for name, group in groups.items()}
    rates = {name: of_backbone if name.startswith("backbone/") else rate for name in groups}
    method, options = config.optimizer()
    parts = [optax.clip_by_global_norm(config.clip)] if config.clip is not None else []
    return optax.chain(*parts, method(Pace(rates, decays, factors), wishes, **options)), rate


def _schedules(config: OptimConfig) -> tuple[Schedule, Schedule]:
    """The learning rate, and the backbone's."""
    curve = {"power": config.power, "name": config.schedule or "poly"}
    if not config.backbone_warmup:
        rate = poly_schedule(config.lr, config.steps, end=config.lr_end, warmup_steps=config.warmup_steps,
                             warmup_factor=config.warmup_factor, **curve)
        return rate, rate
    two_stage = partial(two_stage_schedule, config.lr, config.steps, **curve)
    return two_stage(warmup_steps=config.warmup_steps), two_stage(wait=config.warmup_steps, warmup_steps=config.backbone_warmup)


def optimizer(model: nnx.Module, wrt: Any = nnx.Param, name: str | optax.GradientTransformation = "adamw", *, lr: float = 1e-4,
              weight_decay: float = 0.05, schedule: str = "poly", steps: int | None = None, groups: str | Sequence | None = None,
              **options: Any) -> optax.GradientTransformation:
    """An optimizer for stock Flax loops, with what the parameters say themselves: the same updates as the trainer's.

    Args:
        model: the module to train; its shapes, names and the parameters' wishes (`rein_jax.param`) are read, no value is.
        wrt: the NNX filter of what trains; the same as nnx.Optimizer's.
        name: adamw (torch's, exact in float32), adam, lion, muon, sgd or lamb; or an optax transformation over the flat dict
            {"adapters/0/layers/tokens_a": array, ...}.
        lr: highest learning rate.
        weight_decay: decay, times the learning rate; of the parameters that do not refuse it.
        schedule: poly, linear, cosine or constant.
        steps: length of the training; only a constant schedule does without.
        groups: name of a preset ("rein_512", "soma", ...), or rows (pattern, decay[, lr[, optional]]) on the names; None: every
            parameter as it says itself.
        **options: the other fields of `OptimConfig`: warmup_steps, betas, momentum, clip, decay_end, backbone_lr, layer_decay, ...

    Returns:
        An optax.GradientTransformation over the state of `model` filtered by `wrt`.

    Raises:
        UserError: an unknown name or option, or a value outside its range.

    Example:
        trainable = rj.trainable("adapter", "head")
        tx = rj.optimizer(model, trainable, "lion", lr=3e-5, steps=1000)
        optimizer = nnx.Optimizer(model, tx, wrt=trainable)
    """
    state = nnx.state(model, wrt)
    flat = nnx.to_flat_state(state)
    if not flat:
        raise UserError("The filter of rein_jax.optimizer matches no parameter of the model; widen it.")
    if steps is None:
        if schedule != "constant" or {"decay_end", "warmup_steps", "backbone_warmup"} & options.keys():
            raise UserError("rein_jax.optimizer needs steps=, the length of the training, unless schedule='constant'.")
        steps = 1
    arrays = {trees.name_of(path): variable.get_raw_value() for path, variable in flat}
    wishes = {trees.name_of(path): trees.wishes_of(variable) for path, variable in flat}
    config = {"name": name, "lr": lr, "weight_decay": weight_decay, "schedule": schedule, "groups": groups, **options}
    inner, _ = make_optimizer(config, arrays, wishes, steps=steps)
    names = jax.tree.leaves(nnx.from_flat_state([(path, trees.name_of(path)) for path, _ in flat]))  # in the order of the state's leaves

    def named(tree) -> trees.FlatParams:
        return dict(zip(names, jax.tree.leaves(tree), strict=True))

    def update(grads, opt_state, params=None):
        updates, opt_state = inner.update(named(grads), opt_state, named(params))
        return jax.tree.unflatten(jax.tree.structure(grads), [updates[name] for name in names]), opt_state

    return optax.GradientTransformation(lambda params: inner.init(named(params)), update)

"""The state of a run: what a step changes, and so exactly what a checkpoint holds.

Frozen parameters are not part of it (never donated, never saved), nor is a random key: the key of step n is
`fold_in(key(seed), n)`, and the batch of step n is a function of n, so that the step number is all that resuming needs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rein_jax.precision import Policy
from rein_jax.sharding import Rules, place, replicated, shard_flat, shard_like
from rein_jax.trees import FlatParams, Wishes


@jax.tree_util.register_dataclass
@dataclass
class TrainState:
    """step: batches consumed; skipped: of these, steps left out for NaN or inf; row: skipped ones in a row up to now."""

    step: Any
    skipped: Any
    row: Any
    trainable: FlatParams
    opt_state: Any
    ema: FlatParams  # moving average of the trainable leaves; empty when off


def initial(trainable: FlatParams, tx: Any, ema: bool) -> TrainState:
    """The state before the first step, of its trainable leaves."""
    zero = jnp.zeros((), jnp.int32)
    return TrainState(zero, zero, zero, trainable, tx.init(trainable), dict(trainable) if ema else {})


def state_shardings(state: TrainState, mesh: Mesh, rules: Rules, wishes: Mapping[str, Wishes]) -> TrainState:
    """Where each leaf of the state lives; moments and EMA follow their parameter."""
    flat = state.trainable
    shardings = shard_flat(flat, mesh, _only(rules, flat), wishes) if flat else {}
    whole = replicated(mesh)
    return TrainState(whole, whole, whole, shardings, shard_like(state.opt_state, shardings, flat, mesh),
                      {name: shardings[name] for name in state.ema})


def _only(rules: Rules, flat: FlatParams) -> Rules:
    """Rules cover trainable and frozen leaves together: those that match nothing here are not a mistake here."""
    return rules if isinstance(rules, str) else [rule for rule in rules if any(re.match(rule[0], name) for name in flat)]


@dataclass
class ShardedState:
    """State and frozen parameters with their shardings, ready for a step."""

    state: TrainState
    frozen: FlatParams
    shardings: TrainState


def place_run(trainable: FlatParams, frozen: FlatParams, tx: Any, policy: Policy, mesh: Mesh, rules: Rules,
              ema: bool = False, *, wishes: Mapping[str, Wishes]) -> ShardedState:
    """Cast by the policy and put on the mesh, as the arrays wish (`ModuleDef.wishes`); abstract leaves become ShapeDtypeStructs that
    carry their sharding."""
    abstract = any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in (*trainable.values(), *frozen.values()))
    build, store = partial(initial, tx=tx, ema=ema), partial(policy.store, wishes=wishes)
    state = jax.eval_shape(build, jax.eval_shape(policy.master, trainable))
    where = state_shardings(state, mesh, rules, wishes)
    still = shard_flat(frozen, mesh, _only(rules, frozen), wishes) if frozen else {}
    if abstract:
        def pin(a, s):
            return jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s)

        return ShardedState(jax.tree.map(pin, state, where), jax.tree.map(pin, jax.eval_shape(store, frozen), still), where)
    leaves = place(policy.master(trainable), where.trainable)
    state = jax.jit(build, out_shardings=where)(leaves)  # moments are split from the start: whole they may not fit
    return ShardedState(state, place(store(frozen), still), where)


def abstract_arrays(state: TrainState) -> dict[str, dict[str, tuple[tuple[int, ...], str]]]:
    """{part: {path: (shape, dtype)}} of the state: written beside a checkpoint and compared before one is restored."""
    parts = {"trainable": state.trainable, "opt_state": state.opt_state, "ema": state.ema}
    return {part: {jax.tree_util.keystr(path): (tuple(leaf.shape), np.dtype(leaf.dtype).name)
                   for path, leaf in jax.tree_util.tree_leaves_with_path(tree)} for part, tree in parts.items()}

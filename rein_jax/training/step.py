"""One training step, compiled once: gradients, moments and communication exist for the trainable leaves only."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rein_jax import trees
from rein_jax.components import Augment
from rein_jax.kernels.platforms import images_split
from rein_jax.precision import Policy
from rein_jax.sharding import AXES, batch_sharding, replicated
from rein_jax.training.state import TrainState

STOP = "stop"  # int32 [b] in every batch: 1 if this process was told to stop; the step reports the maximum to all processes


def make_loss(module_def: trees.ModuleDef, policy: Policy) -> Callable:
    """loss(trainable, frozen, batch, key, progress=None, draws=None) -> (total, terms), computed and reported in the policy's dtypes."""
    def loss(trainable: trees.FlatParams, frozen: trees.FlatParams, batch: Any, key: jax.Array, progress: jax.Array | None = None,
             draws: Any = None):
        model = trees.merge(module_def, *policy.entry(trainable, frozen, module_def.wishes))
        batch = batch if progress is None else {**batch, "progress": progress}
        total, terms = model.loss(batch, key) if draws is None else model.loss(batch, key, draws)
        return total.astype(policy.loss), {name: value.astype(policy.loss) for name, value in terms.items()}

    return loss


def batch_structs(size: int, crop: tuple[int, int], mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """An abstract training batch over all devices, as the loader gives it (ARCHITECTURE.md, data contract)."""
    shapes = {"image": ((size, *crop, 3), jnp.uint8), "label": ((size, *crop), jnp.uint8), "size": ((size, 2), jnp.int32),
              "index": ((size, 2), jnp.int32), STOP: ((size,), jnp.int32)}
    where = batch_sharding(mesh)
    return {name: jax.ShapeDtypeStruct(shape, dtype, sharding=where) for name, (shape, dtype) in shapes.items()}


def make_step(module_def: trees.ModuleDef, tx: Any, policy: Policy, mesh: Mesh, shardings: TrainState, *,
              schedule: Callable | None = None, augment: Augment | None = None, accumulate: int = 1, ema: float = 0.0, ema_start: int = 0,
              steps: int = 0):
    """Jitted `step(state, frozen, batch, key=None, draws=None) -> (state, metrics)`; the state is donated.

    key: data of the run's random key, uint32 (None: that of seed 0); an argument, so that all seeds of a config are one program.
    draws: the random points of the mask loss in place of the key's (`losses.Draws`), to run the very step of another code; not for
    micro-batches.

    A step whose loss or gradients are not finite changes nothing but the counters. `accumulate` micro-batches are run one
    after the other and their gradients averaged; where a loss normalises by the batch (number of masks, of labelled pixels)
    this is the mean of the micro-batches' losses, not the loss of the whole batch.
    steps: length of the training, for models that change as it goes on (0: they stay as at its start).
    metrics: fp32 scalars "loss", one per loss term, "grad_norm", "lr" (with a schedule), and "finite", "row", "stop".
    """
    loss_fn = make_loss(module_def, policy)

    def gradients(trainable, frozen, batch, key, progress, draws=None):
        augment_key, loss_key = jax.random.split(key)
        if augment is not None:
            batch = augment(batch, augment_key, lambda data: loss_fn(trainable, frozen, data, loss_key, progress, draws)[0])
        return jax.value_and_grad(loss_fn, has_aux=True)(trainable, frozen, batch, loss_key, progress, draws)

    def step(state: TrainState, frozen: trees.FlatParams, batch: dict[str, jax.Array], key: jax.Array | None = None, draws: Any = None):
        if draws is not None and accumulate > 1:
            raise ValueError("draws are of a whole batch; give none with micro-batches")
        batch = dict(batch)
        stop = jnp.max(batch.pop(STOP)) if STOP in batch else jnp.zeros((), jnp.int32)
        key = jax.random.fold_in(jax.random.key(0) if key is None else jax.random.wrap_key_data(key), state.step)
        progress = (state.step - state.skipped) / steps if steps else jnp.zeros(())
        with jax.named_scope("gradients"), images_split(mesh, AXES):
            if accumulate == 1:
                (loss, terms), grads = gradients(state.trainable, frozen, batch, key, progress, draws)
            else:
                at_progress = partial(gradients, progress=progress)
                (loss, terms), grads = _accumulated(at_progress, state.trainable, frozen, batch, key, accumulate, mesh)
        with jax.named_scope("update"):
            new, finite, norm = _update(state, tx, grads, loss, ema, ema_start)
        metrics = {"loss": loss, **terms, "grad_norm": norm, "finite": finite, "row": new.row, "stop": stop}
        if schedule is not None:
            metrics["lr"] = jnp.asarray(schedule(state.step - state.skipped), jnp.float32)
        return new, metrics

    return jax.jit(step, donate_argnums=(0,), out_shardings=(shardings, replicated(mesh)))


def _accumulated(gradients, trainable, frozen, batch, key, parts: int, mesh: Mesh):
    """Mean of loss, terms and gradients over `parts` micro-batches, each spread over all devices (every parts-th image)."""
    spread = NamedSharding(mesh, P(None, AXES))

    def cut(x):
        micro = jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)
        return jax.lax.with_sharding_constraint(micro, spread)

    def one(carry, inputs):
        index, micro = inputs
        result = gradients(trainable, frozen, micro, jax.random.fold_in(key, index))
        return jax.tree.map(lambda total, value: total + value / parts, carry, result), None

    micro = jax.tree.map(cut, batch)
    first = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), micro)
    shapes = jax.eval_shape(gradients, trainable, frozen, first, key)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return jax.lax.scan(one, zeros, (jnp.arange(parts), micro))[0]


def _update(state: TrainState, tx: Any, grads: trees.FlatParams, loss: jax.Array, decay: float, start: int):
    """(new state, finite?, global gradient norm); a step that is not finite keeps parameters and moments."""
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(g.astype(jnp.float32))) for g in grads.values()))
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    updates, opt_state = tx.update(grads, state.opt_state, state.trainable)
    trainable = jax.tree.map(lambda p, u: p + u.astype(p.dtype), state.trainable, updates)
    count = (state.step - state.skipped).astype(jnp.float32)
    if start:
        rate = jnp.where(count < start, 0.0, decay)
    else:
        rate = jnp.minimum(decay, (1 + count) / (10 + count))  # a short memory at first, so that the start is forgotten
    average = {name: rate * old + (1 - rate) * trainable[name] for name, old in state.ema.items()}

    def keep(new, old):
        return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)

    bad = 1 - finite.astype(jnp.int32)
    new = TrainState(state.step + 1, state.skipped + bad, (state.row + 1) * bad, keep(trainable, state.trainable),
                     keep(opt_state, state.opt_state), keep(average, state.ema))
    return new, finite, norm

"""Stacked modules: modules of equal shape stored once, every array with a leading layer axis, and how their activations are kept."""

from __future__ import annotations

from collections.abc import Callable

import jax
from flax import nnx
from jax.sharding import PartitionSpec

from rein_jax.trees import wishes_of

REMAT = {
    "none": lambda f: f,
    "full": jax.checkpoint,
    "dots": lambda f: jax.checkpoint(f, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable),
}


def stacked(make: Callable[[nnx.Rngs], nnx.Module], depth: int, rngs: nnx.Rngs) -> nnx.Module:
    """`depth` independently initialised modules as one module whose arrays have a leading axis of length `depth`, and say so."""
    graphs = []

    def arrays(key):
        graph, state = nnx.split(make(nnx.Rngs(params=key)))
        graphs.append(graph)
        return state

    state = jax.vmap(arrays)(jax.random.split(rngs.params(), depth))
    for _, variable in nnx.to_flat_state(state):
        wishes = wishes_of(variable)
        variable.set_metadata(stacked=wishes.stacked + 1)
        if wishes.sharding:
            variable.set_metadata(out_sharding=PartitionSpec(None, *wishes.sharding))
    return nnx.merge(graphs[0], state)


def layer(stack: nnx.Module, number) -> nnx.Module:
    """Layer `number` (a Python number, or a traced one) of stacked modules, as a module of its own."""
    graph, state = nnx.split(stack)
    return nnx.merge(graph, jax.tree.map(lambda a: a[number], state))

"""Which dtype each part of a run lives and computes in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from rein_jax.errors import UserError
from rein_jax.trees import PLAIN, FlatParams, Wishes, cast


@dataclass(frozen=True)
class Policy:
    """The dtypes of a run; losses, norms' statistics, softmax and the optimizer are fp32 whatever the policy says.

    params: master copy of the trainable leaves; frozen: storage of the frozen leaves; compute: what both are cast to at
    the entry of the step, and so what the model computes in; loss: what the loss and its terms are reported in.
    wishes: `ModuleDef.wishes`; what is `exact` there stays as it is.
    """

    params: Any = jnp.float32
    frozen: Any = jnp.float32
    compute: Any = jnp.float32
    loss: Any = jnp.float32

    def master(self, trainable: FlatParams) -> FlatParams:
        """Trainable leaves as they are stored and optimised."""
        return cast(trainable, self.params)

    def store(self, frozen: FlatParams, wishes: Mapping[str, Wishes]) -> FlatParams:
        """Frozen leaves as they are stored: once, in the dtype they are used in."""
        return _cast(frozen, self.frozen, wishes)

    def entry(self, trainable: FlatParams, frozen: FlatParams, wishes: Mapping[str, Wishes]) -> tuple[FlatParams, FlatParams]:
        """Both trees as the model sees them: the one cast of a step."""
        return self.inputs(trainable, wishes), self.inputs(frozen, wishes)

    def inputs(self, arrays: FlatParams, wishes: Mapping[str, Wishes]) -> FlatParams:
        """Any leaves as the model sees them."""
        return _cast(arrays, self.compute, wishes)


def _cast(arrays: FlatParams, dtype: Any, wishes: Mapping[str, Wishes]) -> FlatParams:
    done = cast({name: array for name, array in arrays.items() if not wishes.get(name, PLAIN).exact}, dtype)
    return {name: done.get(name, array) for name, array in arrays.items()}


PRESETS = {
    "fp32": Policy(),
    "bf16": Policy(frozen=jnp.bfloat16, compute=jnp.bfloat16),
}


def policy(name: str = "auto", backend: str | None = None) -> Policy:
    """The preset "fp32" or "bf16"; "auto" is fp32 on CPU and bf16 elsewhere (backend: None = the one JAX runs on)."""
    if name == "auto":
        name = "fp32" if (backend or jax.default_backend()) == "cpu" else "bf16"
    if name not in PRESETS:
        raise UserError(f"Unknown precision {name!r}; choose one of auto, {', '.join(PRESETS)}.")
    return PRESETS[name]

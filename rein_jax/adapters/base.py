"""The interface between a stack of blocks and a method that adapts it.

A backbone declares each run of equally wide blocks as a `Stage`. An adapter is built for one stage, keeps its per-layer
parameters stacked in `layers`, and is called by the block loop (`layers/stack.py:run_blocks`) at named places. A method
overrides only the places it needs; the backbone's own parameters are never touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from flax import nnx


@dataclass(frozen=True)
class Stage:
    """A run of blocks that one adapter serves.

    depth: number of blocks; width: channels d; prefix: class and register tokens in front of the patch tokens;
    linears: {name: (in, out)} of the linear maps that call `Adapter.linear`; patch: patch size (initial values of
    Rein and VPT use it); tokens: False where blocks see feature maps flattened to tokens without a prefix (CNNs).
    """

    depth: int
    width: int
    prefix: int = 0
    linears: tuple[tuple[str, tuple[int, int]], ...] = ()
    patch: int = 16


class Site(NamedTuple):
    """Where in the stack an adapter is being called."""

    layer: Any  # this layer's slice of `Adapter.layers`: a module whose arrays have lost the leading axis, or None
    index: jax.Array | int  # which of the adapter's layers (traced inside scan)
    prefix: int  # tokens in front of the patch tokens, without those the adapter itself inserted
    key: jax.Array | None  # random key for dropout; None means deterministic


class Adapter(nnx.Module):
    """Does nothing at every place; methods override what they need.

    Attributes of a built adapter: `stage` (Stage), `active` (tuple of block indices at which it acts, None = all) and
    `layers` (an nnx.Module whose arrays carry a leading axis of length len(active), or None).
    """

    stage: Stage | None = None
    active: tuple[int, ...] | None = None
    layers: nnx.Module | None = None

    def begin(self, x, prefix: int):
        """Once before the first block."""
        return x

    def enter(self, site: Site, x):
        """Before a block. x [B, N, d]."""
        return x

    def linear(self, site: Site, name: str, x, y):
        """At a linear map of a block: x is its input, y its output [..., out]; returns the new output."""
        return y

    def mlp(self, site: Site, x, y):
        """At the MLP of a block: x is the stream before the MLP's norm, y the MLP branch's result (LayerScale applied)."""
        return y

    def leave(self, site: Site, x):
        """After a block; what it returns is what the next block sees and what a tap collects."""
        return x

    def finish(self, x, prefix: int):
        """Applied to every collected tap."""
        return x

    def queries(self):
        """Object queries for the head [M, C], or None."""
        return None


NONE = Adapter()

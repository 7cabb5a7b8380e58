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

from rein_jax.errors import UserError


@dataclass(frozen=True)
class Stage:
    """A run of blocks that one adapter serves.

    depth: number of blocks; width: channels d; prefix: class and register tokens in front of the patch tokens; linears: (name, (in, out))
    of the linear maps that call `Adapter.linear`; patch: patch size (initial values of Rein and VPT use it); places: what else the blocks
    offer: "tokens" (they attend over one sequence, so tokens may be inserted), "mlp" (they call `Adapter.mlp`). Empty for CNNs.
    key_bias: a fused qkv map has a bias for k.
    """

    depth: int
    width: int
    prefix: int = 0
    linears: tuple[tuple[str, tuple[int, int]], ...] = ()
    patch: int = 16
    places: tuple[str, ...] = ("tokens", "mlp")
    key_bias: bool = True


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

    def begin(self, x, prefix: int, key=None):
        """Once before the first block; key as in Site, for this place alone."""
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


def require(stage: Stage, place: str, method: str) -> None:
    """Refuse a method on blocks that lack what it needs."""
    if place not in stage.places:
        what = {"tokens": "attend over one token sequence", "mlp": "have an MLP with a hook"}[place]
        raise UserError(f"config.adapter.name={method!r} needs blocks that {what}; this backbone's do not. Use rein, or another backbone.")


def active_blocks(blocks, stage: Stage) -> tuple[int, ...] | None:
    """The checked block numbers of an adapter that acts on some blocks only; None for all of them."""
    if blocks is None:
        return None
    blocks = tuple(int(b) for b in blocks)
    if list(blocks) != sorted(set(blocks)) or not blocks or not 0 <= blocks[0] <= blocks[-1] < stage.depth:
        raise UserError(f"config.adapter.blocks is {blocks}; give increasing block numbers between 0 and {stage.depth - 1}.")
    return None if len(blocks) == stage.depth else blocks


def check_rate(rate: float) -> float:
    """A dropout rate, refused outside 0 <= rate < 1."""
    if not 0 <= rate < 1:
        raise UserError(f"config.adapter.dropout is {rate}; it must be at least 0 and below 1.")
    return rate


def dropout(x, rate: float, key):
    """Inverted dropout; key=None or rate 0 leaves x alone."""
    if key is None or rate == 0.0:
        return x
    keep = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jax.numpy.where(keep, x / (1.0 - rate), 0).astype(x.dtype)

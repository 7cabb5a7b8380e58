"""The interface between a stack of blocks and a method that adapts it.

A backbone declares each run of equally wide blocks as a `BlockSpec`. An adapter is built for one of them, keeps its per-layer
parameters stacked in `layers`, and is called by the block loop (`backbones/run_blocks.py`) at named hook points. A method
overrides only the hooks it needs; the backbone's own parameters are never touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from flax import nnx

from rein_jax.errors import UserError


@dataclass(frozen=True)
class BlockSpec:
    """A run of blocks that one adapter serves.

    depth: number of blocks; embed_dim: channels d; num_prefix_tokens: class and register tokens in front of the patch tokens; linears:
    (name, (in, out)) of the linear maps that call `Adapter.on_linear`; patch: patch size (initial values of Rein and VPT use it);
    hook_points: what else the blocks offer: "tokens" (they attend over one sequence, so tokens may be inserted), "mlp" (they call
    `Adapter.on_mlp`); empty for CNNs. key_bias: a fused qkv map has a bias for k.
    """

    depth: int
    embed_dim: int
    num_prefix_tokens: int = 0
    linears: tuple[tuple[str, tuple[int, int]], ...] = ()
    patch: int = 16
    hook_points: tuple[str, ...] = ("tokens", "mlp")
    key_bias: bool = True


class LayerContext(NamedTuple):
    """Where in the stack an adapter is being called."""

    layer: Any  # this layer's slice of `Adapter.layers`: a module whose arrays have lost the leading axis, or None
    index: jax.Array | int  # which of the adapter's layers (traced inside scan)
    num_prefix_tokens: int  # tokens in front of the patch tokens, without those the adapter itself inserted
    key: jax.Array | None  # random key for dropout; None means deterministic


class Adapter(nnx.Module):
    """Does nothing at every hook; methods override what they need.

    Attributes of a built adapter: `spec` (BlockSpec), `active` (tuple of block indices at which it acts, None = all) and
    `layers` (an nnx.Module whose arrays carry a leading axis of length len(active), or None).
    """

    spec: BlockSpec | None = None
    active: tuple[int, ...] | None = None
    layers: nnx.Module | None = None

    def pre_forward(self, x, num_prefix_tokens: int, key=None):
        """Once before the first block; key as in LayerContext, for this call alone."""
        return x

    def pre_block(self, context: LayerContext, x):
        """Before a block. x [B, N, d]."""
        return x

    def on_linear(self, context: LayerContext, name: str, x, y):
        """At a linear map of a block: x is its input, y its output [..., out]; returns the new output."""
        return y

    def on_mlp(self, context: LayerContext, x, y):
        """At the MLP of a block: x is the stream before the MLP's norm, y the MLP branch's result (LayerScale applied)."""
        return y

    def post_block(self, context: LayerContext, x):
        """After a block; what it returns is what the next block sees and what a tap collects."""
        return x

    def post_forward(self, x, num_prefix_tokens: int):
        """Applied to every collected tap."""
        return x

    def queries(self):
        """Object queries for the head [M, C], or None."""
        return None


NONE = Adapter()


def require(spec: BlockSpec, hook_point: str, method: str) -> None:
    """Refuse a method on blocks that lack what it needs."""
    if hook_point not in spec.hook_points:
        what = {"tokens": "attend over one token sequence", "mlp": "have an MLP with a hook"}[hook_point]
        raise UserError(f"config.adapter.name={method!r} needs blocks that {what}; this backbone's do not. Use rein, or another backbone.")


def active_blocks(blocks, spec: BlockSpec) -> tuple[int, ...] | None:
    """The checked block numbers of an adapter that acts on some blocks only; None for all of them."""
    if blocks is None:
        return None
    blocks = tuple(int(b) for b in blocks)
    if list(blocks) != sorted(set(blocks)) or not blocks or not 0 <= blocks[0] <= blocks[-1] < spec.depth:
        raise UserError(f"config.adapter.blocks is {blocks}; give increasing block numbers between 0 and {spec.depth - 1}.")
    return None if len(blocks) == spec.depth else blocks


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

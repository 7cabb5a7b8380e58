"""The interface between a stack of blocks and a method that adapts it.

A backbone declares each run of equally wide blocks as a `BlockSpec`. An adapter is built for one of them, keeps its per-layer
parameters stacked in `layers`, and is called by the block loop (`backbones/run_blocks.py`) at named hook points. A method
overrides only the hooks it needs; the backbone's own parameters are never touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
from flax import nnx

from rein_jax.errors import UserError
from rein_jax.layers import stack
from rein_jax.layers.component import Component


@dataclass(frozen=True)
class BlockSpec:
    """A run of blocks that one adapter serves.

    Args:
        depth: number of blocks.
        embed_dim: channels d.
        num_prefix_tokens: class and register tokens in front of the patch tokens.
        linears: (name, (in, out)) of the linear maps that call `Adapter.on_linear`.
        patch: patch size (initial values of Rein and VPT use it).
        hook_points: what else the blocks offer: "tokens" (they attend over one sequence, so tokens may be inserted), "mlp" (they call
            `Adapter.on_mlp`); empty for CNNs.
        key_bias: a fused qkv map has a bias for k.
    """

    depth: int
    embed_dim: int
    num_prefix_tokens: int = 0
    linears: tuple[tuple[str, tuple[int, int]], ...] = ()
    patch: int = 16
    hook_points: tuple[str, ...] = ("tokens", "mlp")
    key_bias: bool = True


class LayerContext(NamedTuple):
    """Where in the stack an adapter is being called.

    Attributes:
        layer: this layer's slice of `Adapter.layers`: a module whose arrays have lost the leading axis, or None.
        index: which of the adapter's layers (traced inside scan).
        num_prefix_tokens: tokens in front of the patch tokens, without those the adapter itself inserted.
        key: random key for dropout; None means deterministic.
    """

    layer: Any
    index: jax.Array | int
    num_prefix_tokens: int
    key: jax.Array | None


Blocks = BlockSpec | nnx.Module  # what an adapter is built for: a run of blocks, or a backbone that declares some


def block_spec(backbone: Blocks | None, *, embed_dim: int | None = None, depth: int | None = None, num_prefix_tokens: int = 0) -> BlockSpec:
    """The run of blocks that an adapter is to serve.

    Args:
        backbone: a backbone with one run of blocks, or a BlockSpec.
        embed_dim, depth, num_prefix_tokens: of the blocks of any other network, in place of a backbone.

    Raises:
        UserError: neither is given.
    """
    if backbone is None:
        if embed_dim is None or depth is None:
            raise UserError("An adapter needs a backbone, or embed_dim= and depth= of the blocks that it is to serve.")
        return BlockSpec(depth, embed_dim, num_prefix_tokens)
    if embed_dim is not None or depth is not None:
        raise UserError("An adapter takes a backbone, or embed_dim= and depth= of other blocks; leave out one of the two.")
    if isinstance(backbone, BlockSpec):
        return backbone
    specs = getattr(backbone, "block_specs", None)
    if not specs:
        raise UserError(f"{type(backbone).__name__} declares no block_specs; give one of rein_jax's backbones, or embed_dim= and depth= of "
                        "the blocks that the adapter is to serve.")  # fmt: skip
    return specs[0]


if TYPE_CHECKING:
    from flax.nnx.module import ModuleMeta
else:
    ModuleMeta = type(nnx.Module)


class _OnePerStage(ModuleMeta):
    """Calling an adapter's class with a backbone of several stages makes an adapter for each of them."""

    if not TYPE_CHECKING:

        def __call__(cls, *args, **kwargs):
            specs = getattr(args[0] if args else kwargs.get("backbone"), "block_specs", ())
            if len(specs) < 2:
                return super().__call__(*args, **kwargs)
            kwargs = {**kwargs, "rngs": kwargs.get("rngs") or nnx.Rngs(0)}
            kwargs.pop("backbone", None)
            made = super().__call__
            return AdapterStages([made(spec, *args[1:], **kwargs) for spec in specs])


class Adapter(Component, metaclass=_OnePerStage):
    """Does nothing at every hook; methods override what they need.

    Attributes of a built adapter: `spec` (BlockSpec), `active` (tuple of block indices at which it acts, None = all) and
    `layers` (an nnx.Module whose arrays carry a leading axis of length len(active), or None).

    Args:
        backbone: what is to be adapted, or one of its `block_specs`. None: the adapter serves none, and does nothing.
    """

    spec: BlockSpec = BlockSpec(0, 0)
    active: tuple[int, ...] | None = None
    layers: nnx.Module | None = None

    def __init__(self, backbone: Blocks | None = None):
        if backbone is not None:
            self.spec = block_spec(backbone)

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

    def at(self, layer, key=None) -> LayerContext:
        """What the hooks are given at block number `layer`, for calling them from your own loop.

        Args:
            layer: number of the block, a Python number; a traced one where the adapter acts on every block.
            key: random key for dropout; None means deterministic.

        Example:
            y = lora.on_linear(lora.at(i), "qkv", x, qkv(x))
        """
        index = layer if self.active is None else self.active.index(layer)
        layer = None if self.layers is None else stack.layer(self.layers, index)
        return LayerContext(layer, index, self.spec.num_prefix_tokens, key)

    def __call__(self, x, layer, key=None):
        """The stream behind block number `layer`, for adapters that act between blocks alone, in any network.

        Args:
            x: the block's output [B, N, d].
            layer, key: see `at`.

        Returns:
            What the next block is to see, [B, N, d].

        Raises:
            UserError: the adapter also acts elsewhere; its hooks have to be called there.
        """
        elsewhere = [hook for hook in HOOKS if getattr(type(self), hook) is not getattr(Adapter, hook)]
        if elsewhere != ["post_block"]:
            raise UserError(f"{type(self).__name__} does not act between blocks alone but by {', '.join(elsewhere) or 'no hook'}; call its "
                            "hooks where they belong, each with adapter.at(layer).")  # fmt: skip
        if self.active is not None and layer not in self.active:
            return x
        return self.post_block(self.at(layer, key), x)


HOOKS = ("pre_forward", "pre_block", "on_linear", "on_mlp", "post_block", "post_forward")
NONE = Adapter()


class AdapterStages(Adapter):
    """The adapters of a backbone with several stages, one for each, as one object."""

    def __init__(self, stages: Sequence[Adapter]):
        self.stages = nnx.List(stages)

    @property
    def options(self) -> dict[str, Any]:
        """Those of each stage's adapter: they are the same."""
        return self.stages[0].options

    def queries(self):
        """Object queries [M, C] summed over the stages; None where these give none."""
        return queries_of(self.stages)


AnyAdapter = Adapter | Iterable[Adapter] | None


def stages_of(adapter: AnyAdapter) -> tuple[Adapter, ...]:
    """One adapter a stage, from whatever names them: an adapter, several, or None for none."""
    if adapter is None:
        return ()
    if isinstance(adapter, AdapterStages):
        return tuple(adapter.stages)
    return (adapter,) if isinstance(adapter, Adapter) else tuple(adapter)


def queries_of(adapters: Iterable[Adapter]):
    """Object queries [M, C] summed over the adapters of a backbone's stages; None where these give none."""
    given = [q for q in (adapter.queries() for adapter in adapters) if q is not None]
    return sum(given[1:], given[0]) if given else None


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

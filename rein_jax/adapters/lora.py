"""LoRA (Hu et al. 2021): y = x W + b + s (x A) B on chosen linear maps; the product merges into W for inference."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from rein_jax import registry
from rein_jax.adapters.base import Adapter, Blocks, BlockSpec, LayerContext, active_blocks, block_spec, check_rate, dropout
from rein_jax.errors import UserError
from rein_jax.layers.init import torch_uniform
from rein_jax.layers.stack import stacked
from rein_jax.trees import param

THIRDS = ("q", "k", "v")
ATTENTION = ("qkv", *THIRDS)


def pick_targets(targets, spec: BlockSpec, default: tuple[str, ...], parts: bool = False) -> dict[str, tuple[int, int]]:
    """{name: (in, out)} of the chosen linear maps; names that the backbone lacks are a UserError. () = those of `default` that exist.
    parts: "q", "k", "v" may name thirds of a fused qkv map."""
    known = dict(spec.linears)
    if not known:
        raise UserError("This method changes linear maps, and this backbone's blocks have none; use rein, full or freeze, or another.")
    targets = targets.replace(" ", "").split(",") if isinstance(targets, str) else targets  # "qkv,proj" from a command line
    chosen = tuple(targets) or tuple(name for name in default if name in known)
    if parts and "qkv" in known:
        embed_dim, out = known["qkv"]
        known = {**dict.fromkeys(THIRDS, (embed_dim, out // 3)), **known}
        if "qkv" in chosen and set(chosen) & set(THIRDS):
            raise UserError("config.adapter.targets names qkv and parts of it; leave one out.")
    for name in chosen:
        if name not in known:
            raise registry.unknown(name, known, "target of config.adapter.targets")
    if not chosen:
        raise UserError(f"This backbone has none of the linear maps {', '.join(default)}; name targets in config.adapter.targets, "
                        f"among {', '.join(sorted(known))}.")  # fmt: skip
    return {name: known[name] for name in chosen}


class LowRank(nnx.Module):
    """The factors of one block: {target}_a [parts, in, r] and {target}_b [parts, r, out / parts].

    They stay float32 and are cast where they are used: of SoMA's small differences are taken, whose first steps bfloat16 would lose.
    """

    def __init__(self, targets: dict[str, tuple[int, int]], rank: int, parts: dict[str, int], *, rngs: nnx.Rngs):
        for name, (fan_in, fan_out) in targets.items():
            n = parts[name]
            setattr(self, f"{name}_a", param(torch_uniform(fan_in)(rngs.params(), (n, fan_in, rank)), exact=True, stacked=1))
            setattr(self, f"{name}_b", param(jnp.zeros((n, rank, fan_out // n)), exact=True, stacked=1))

    def factors(self, name: str, suffix: str = ""):
        """A and B of a target."""
        return tuple(getattr(self, f"{name}_{which}{suffix}")[...] for which in "ab")


def product(x, a, b, scale: float):
    """s (x A) B in x's dtype for x [..., in], A [parts, in, r], B [parts, r, out / parts]; the parts' outputs lie side by side."""
    a, b = a.astype(x.dtype), b.astype(x.dtype)
    if a.shape[0] == 1:
        return scale * ((x @ a[0]) @ b[0])
    inner = jnp.einsum("...i,pir->...pr", x, a)
    return scale * jnp.einsum("...pr,pro->...po", inner, b).reshape(*x.shape[:-1], -1)


def factor_delta(layers: LowRank, name: str, scale: float, suffix: str = ""):
    """What the factors add to the kernels of all blocks: [L, in, out], float32."""
    a, b = (factor.astype(jnp.float32) for factor in layers.factors(name, suffix))
    delta = jnp.einsum("lpir,lpro->lipo", a, b, precision="highest")
    return scale * delta.reshape(*delta.shape[:2], -1)


class LoRA(Adapter):
    """LoRA: y = x W + b + s (x A) B on chosen linear maps; the product merges into W for inference.

    Args:
        backbone: what it adapts, or one of its `block_specs`.
        rngs: of the initial values (default: nnx.Rngs(0)).
        targets: names of linear maps, () for the attention's query, key and value maps; q, k and v may be named in fused qkv maps too.
        rank: r.
        alpha: s = alpha / r; None for r, so that s = 1.
        dropout: on the input of A, in training.
        separate: own factors for q, k and v of a fused qkv map (otherwise they share A, as plain LoRA on the fused map does).
        blocks: numbers of the blocks it acts on; None for all.

    Raises:
        UserError: a target that the backbone lacks, or a value that cannot be.
    """

    def __init__(
        self,
        backbone: Blocks | None = None,
        *,
        rngs: nnx.Rngs | None = None,
        targets: tuple[str, ...] = (),
        rank: int = 8,
        alpha: float | None = None,
        dropout: float = 0.0,
        separate: bool = False,
        blocks: tuple[int, ...] | None = None,
    ):
        spec, rngs = block_spec(backbone), rngs or nnx.Rngs(0)
        if rank < 1:
            raise UserError(f"config.adapter.rank is {rank}; it must be at least 1.")
        self.spec, self.rate, self.active = spec, check_rate(dropout), active_blocks(blocks, spec)
        self.factor = (rank if alpha is None else alpha) / rank
        sizes = pick_targets(targets, spec, ATTENTION, parts=True)
        self.targets = tuple(sizes)
        self.thirds = tuple(name for name in sizes if name not in dict(spec.linears))  # of a fused qkv map
        parts = {name: 3 if separate and name == "qkv" else 1 for name in sizes}
        depth = spec.depth if self.active is None else len(self.active)
        self.layers = stacked(lambda r: LowRank(sizes, rank, parts, rngs=r), depth, rngs)

    def on_linear(self, context: LayerContext, name: str, x, y):
        if name == "qkv" and self.thirds:
            return y + self._fused(lambda third: self._change(context, third, x)).astype(y.dtype)
        return y + self._change(context, name, x).astype(y.dtype) if name in self.targets else y

    def _change(self, context: LayerContext, name: str, x):
        key = None if context.key is None else jax.random.fold_in(context.key, self.targets.index(name))
        return product(dropout(x, self.rate, key), *context.layer.factors(name), self.factor)

    def _fused(self, of):
        """`of` each third side by side, with zeros for those that are no target."""
        found = {name: of(name) for name in self.thirds}
        return jnp.concatenate([found[n] if n in found else jnp.zeros_like(found[self.thirds[0]]) for n in THIRDS], axis=-1)

    def kernel_deltas(self):
        """{linear map: what to add to the kernels of the active blocks, [len(active), in, out]}: exact, LoRA is linear."""
        delta = lambda name: factor_delta(self.layers, name, self.factor)
        whole = {name: delta(name) for name in self.targets if name not in self.thirds}
        return {**whole, "qkv": self._fused(delta)} if self.thirds else whole

    def bias_deltas(self):
        """{linear map: what merging adds to its bias}; LoRA adds nothing."""
        return {}

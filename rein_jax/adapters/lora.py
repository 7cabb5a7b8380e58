"""LoRA (Hu et al. 2021): y = x W + b + s (x A) B on chosen linear maps; the product merges into W for inference."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from rein_jax import registry
from rein_jax.adapters.base import Adapter, Site, Stage, active_blocks, dropout
from rein_jax.errors import UserError
from rein_jax.layers.init import torch_uniform
from rein_jax.layers.stack import stacked

ATTENTION = ("qkv", "q", "k", "v")


def pick_targets(targets, stage: Stage, default: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """{name: (in, out)} of the chosen linear maps; names that the backbone lacks are a UserError. () = those of `default` that exist."""
    known = dict(stage.linears)
    if not known:
        raise UserError("This method changes linear maps, and this backbone's blocks have none; use rein, full or freeze, or another.")
    targets = targets.replace(" ", "").split(",") if isinstance(targets, str) else targets  # "qkv,proj" from a command line
    chosen = tuple(targets) or tuple(name for name in default if name in known)
    for name in chosen:
        if name not in known:
            raise registry.unknown(name, known, "target of config.adapter.targets")
    if not chosen:
        raise UserError(f"This backbone has none of the linear maps {', '.join(default)}; name targets in config.adapter.targets, "
                        f"among {', '.join(sorted(known))}.")  # fmt: skip
    return {name: known[name] for name in chosen}


class LowRank(nnx.Module):
    """The factors of one block: {target}_a [parts, in, r] and {target}_b [parts, r, out / parts]."""

    def __init__(self, targets: dict[str, tuple[int, int]], rank: int, parts: dict[str, int], *, rngs: nnx.Rngs):
        for name, (fan_in, fan_out) in targets.items():
            n = parts[name]
            setattr(self, f"{name}_a", nnx.Param(torch_uniform(fan_in)(rngs.params(), (n, fan_in, rank))))
            setattr(self, f"{name}_b", nnx.Param(jnp.zeros((n, rank, fan_out // n))))

    def product(self, name: str, x, scale: float, suffix: str = ""):
        """s (x A) B for x [..., in]; the parts' outputs lie side by side."""
        a, b = (getattr(self, f"{name}_{which}{suffix}")[...].astype(x.dtype) for which in "ab")
        if a.shape[0] == 1:
            return scale * ((x @ a[0]) @ b[0])
        inner = jnp.einsum("...i,pir->...pr", x, a)
        return scale * jnp.einsum("...pr,pro->...po", inner, b).reshape(*x.shape[:-1], -1)


def factor_delta(layers: LowRank, name: str, scale: float, suffix: str = ""):
    """What the factors add to the kernels of all blocks: [L, in, out], float32."""
    a, b = (getattr(layers, f"{name}_{which}{suffix}")[...].astype(jnp.float32) for which in "ab")
    delta = jnp.einsum("lpir,lpro->lipo", a, b, precision="highest")
    return scale * delta.reshape(*delta.shape[:2], -1)


class LoRA(Adapter):
    """targets: names of linear maps, () = the attention's query, key and value maps. rank: r (8). alpha: s = alpha / r; None = r, so s = 1.
    dropout: on the input of A. separate: own factors for q, k and v of a fused qkv map (otherwise they share A, as plain LoRA on the fused
    map does). blocks: numbers of the blocks it acts on, None = all."""

    def __init__(
        self,
        stage: Stage,
        *,
        rngs: nnx.Rngs,
        targets: tuple[str, ...] = (),
        rank: int = 8,
        alpha: float | None = None,
        dropout: float = 0.0,
        separate: bool = False,
        blocks: tuple[int, ...] | None = None,
    ):
        if rank < 1:
            raise UserError(f"config.adapter.rank is {rank}; it must be at least 1.")
        self.stage, self.rate, self.active = stage, dropout, active_blocks(blocks, stage)
        self.factor = (rank if alpha is None else alpha) / rank
        sizes = pick_targets(targets, stage, ATTENTION)
        self.targets = tuple(sizes)
        parts = {name: 3 if separate and name == "qkv" else 1 for name in sizes}
        depth = stage.depth if self.active is None else len(self.active)
        self.layers = stacked(lambda r: LowRank(sizes, rank, parts, rngs=r), depth, rngs)

    def linear(self, site: Site, name: str, x, y):
        if name not in self.targets:
            return y
        key = None if site.key is None else jax.random.fold_in(site.key, self.targets.index(name))
        return y + site.layer.product(name, dropout(x, self.rate, key), self.factor).astype(y.dtype)

    def kernel_deltas(self):
        """{target: what to add to the kernels of the active blocks, [len(active), in, out]}: exact, LoRA is linear."""
        return {name: factor_delta(self.layers, name, self.factor) for name in self.targets}

    def bias_deltas(self):
        return {}

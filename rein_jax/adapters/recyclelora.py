"""RecycleLoRA (CVPR 2026 Findings): two low-rank factors on the weights' own directions, chosen by a column-pivoted QR.

For each target, with PyTorch's W [out, in] = the transposed kernel and W[:, P] = Q R: the main factors take the last columns of Q (the
directions that W uses least) and the input channels P in the same places, the sub factors the first ones. B is orthonormal, A picks single
channels, s = alpha / (main + sub), and W keeps W - s (main + sub) (`decomposed.py`), so that the start is the pretrained function.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import scipy.linalg
from flax import nnx

from rein_jax import trees
from rein_jax.adapters.base import Blocks, active_blocks, block_spec
from rein_jax.adapters.decomposed import TARGETS, Decomposed
from rein_jax.adapters.lora import pick_targets
from rein_jax.errors import UserError
from rein_jax.layers.stack import stacked


class RecycledLayer(nnx.Module):
    """{target}_{main, sub}_a [1, in, r] and _b [1, r, out] of one block, and their frozen pretrained twins (suffix 0)."""

    def __init__(self, targets: dict[str, tuple[int, int]], ranks: tuple[tuple[str, int], ...]):
        self.parts = tuple(part for part, _ in ranks)
        for name, (fan_in, fan_out) in targets.items():
            for part, rank in ranks:
                for which, shape in (("a", (1, fan_in, rank)), ("b", (1, rank, fan_out))):
                    setattr(self, f"{name}_{part}_{which}", trees.param(jnp.zeros(shape), decay=False, exact=True, stacked=1))
                    setattr(self, f"{name}_{part}_{which}0", trees.Frozen(jnp.zeros(shape), exact=True, stacked=1))

    def factors(self, name: str, suffix: str = ""):
        """A and B of a target, main and sub side by side."""
        of = lambda which: [getattr(self, f"{name}_{part}_{which}{suffix}")[...] for part in self.parts]
        return jnp.concatenate(of("a"), -1), jnp.concatenate(of("b"), -2)


class RecycleLoRA(Decomposed):
    """RecycleLoRA: two low-rank factors on the weights' own directions. Biases do not train.

    Args:
        backbone: what it adapts, or one of its `block_specs`.
        rngs: unused but for shapes; the factors follow from the backbone.
        main, sub: ranks of the two factors; 0 leaves one out.
        alpha: s = alpha / (main + sub), with alpha 1 as published.
        targets: linear maps, () for all of attention and MLP.
        blocks: numbers of the blocks it acts on; None for all.

    Raises:
        UserError: a target that the backbone lacks, or a value that cannot be.
    """

    def __init__(
        self,
        backbone: Blocks | None = None,
        *,
        rngs: nnx.Rngs | None = None,
        main: int = 32,
        sub: int = 4,
        alpha: float = 1.0,
        targets: tuple[str, ...] = (),
        blocks: tuple[int, ...] | None = None,
    ):
        spec, rngs = block_spec(backbone), rngs or nnx.Rngs(0)
        sizes = pick_targets(targets, spec, TARGETS)
        small = min(min(size) for size in sizes.values())
        if min(main, sub) < 0 or not 1 <= main + sub <= small:
            raise UserError(f"config.adapter.main and config.adapter.sub are {main} and {sub}; their sum must lie between 1 and {small}, "
                            "the smallest side of a target.")  # fmt: skip
        if not alpha > 0:
            raise UserError(f"config.adapter.alpha is {alpha}; it must be above 0.")
        self.spec, self.active, self.targets = spec, active_blocks(blocks, spec), tuple(sizes)
        self.factor = alpha / (main + sub)
        self.ranks = tuple((part, rank) for part, rank in (("main", main), ("sub", sub)) if rank)
        depth = spec.depth if self.active is None else len(self.active)
        self.layers = stacked(lambda r: RecycledLayer(sizes, self.ranks), depth, rngs)

    def decomposed(self, stem: str, values: trees.FlatParams, name: str) -> trees.FlatParams:
        """In float64: which of two nearly equal columns comes first must not depend on the machine, as the factors are made anew whenever
        a model is loaded."""
        kernels = self.gathered(values, name, "kernel").astype(np.float64)
        blocks, fan_in, fan_out = kernels.shape
        n = min(fan_in, fan_out)
        factorised = [scipy.linalg.qr(kernel.T, mode="economic", pivoting=True) for kernel in kernels]
        out: trees.FlatParams = {}
        for part, rank in self.ranks:
            columns = slice(n - rank, n) if part == "main" else slice(0, rank)
            a, b = np.zeros((blocks, 1, fan_in, rank), np.float32), np.zeros((blocks, 1, rank, fan_out), np.float32)
            for i, (q, _, pivots) in enumerate(factorised):
                a[i, 0, pivots[columns], np.arange(rank)] = 1
                b[i, 0] = q[:, columns].T
            out |= {f"{stem}_{part}_a": a, f"{stem}_{part}_b": b, f"{stem}_{part}_a0": a.copy(), f"{stem}_{part}_b0": b.copy()}
        return out

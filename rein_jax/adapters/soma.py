"""SoMA (Yun et al., CVPR 2025): low-rank tuning in the minor singular directions of the pretrained weights.

For each target W = U S V' (float32, singular values descending) the last r directions become trainable factors A = U_r sqrt(S_r / s),
B = sqrt(S_r / s) V_r', and W keeps the rest (`decomposed.py`).
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import nnx

from rein_jax import trees
from rein_jax.adapters.base import Blocks, block_spec
from rein_jax.adapters.decomposed import TARGETS, Decomposed
from rein_jax.adapters.lora import LowRank, pick_targets
from rein_jax.errors import UserError
from rein_jax.layers.stack import stacked


class SoMALayer(LowRank):
    """Trainable factors and biases of one block, and their frozen pretrained twins (suffix 0)."""

    def __init__(self, targets, rank, parts, biases: tuple[str, ...], *, rngs: nnx.Rngs):
        super().__init__(targets, rank, parts, rngs=rngs)
        for name, (_, fan_out) in targets.items():
            for which in "ab":
                twin = jnp.zeros_like(getattr(self, f"{name}_{which}")[...])
                setattr(self, f"{name}_{which}0", trees.Frozen(twin, exact=True, stacked=1))
            if name in biases:
                setattr(self, f"{name}_bias", trees.param(jnp.zeros(fan_out), exact=True))
                setattr(self, f"{name}_bias0", trees.Frozen(jnp.zeros(fan_out), exact=True))


class SoMA(Decomposed):
    """SoMA: the smallest singular directions of the pretrained weights train, the rest stays. Its factors are taken from the backbone's
    values when a model is put together or loaded.

    Args:
        backbone: what it adapts, or one of its `block_specs`.
        rngs: unused but for shapes; the factors follow from the backbone.
        rank: r.
        alpha: s = alpha / r; None for r.
        start: first adapted block (None: a third of the depth, 8 of 24); earlier ones stay frozen and need no backward pass.
        targets: linear maps, () for all of attention and MLP, q, k and v of a fused map each on their own.
        biases: train the targets' biases too.
        order: "paper" decomposes the pretrained weights; "released" does what the published code does: it decomposes random weights and
            subtracts nothing (to use its published checkpoints).
        no_bias: targets that have no bias.

    Raises:
        UserError: a target that the backbone lacks, or a value that cannot be.
    """

    def __init__(
        self,
        backbone: Blocks | None = None,
        *,
        rngs: nnx.Rngs | None = None,
        rank: int = 16,
        alpha: float | None = None,
        start: int | None = None,
        targets: tuple[str, ...] = (),
        biases: bool = True,
        order: str = "paper",
        no_bias: tuple[str, ...] = ("k",),
    ):
        spec, rngs = block_spec(backbone), rngs or nnx.Rngs(0)
        if order not in ("paper", "released"):
            raise UserError(f"config.adapter.order is {order!r}; choose paper or released.")
        start = spec.depth // 3 if start is None else start
        if not 0 <= start < spec.depth:
            raise UserError(f"config.adapter.start is {start}; give a block number below {spec.depth}.")
        sizes = pick_targets(targets, spec, TARGETS)
        small = min(min(size) // (3 if name == "qkv" else 1) for name, size in sizes.items())
        if not 1 <= rank <= small:
            raise UserError(f"config.adapter.rank is {rank}; it must lie between 1 and {small}, the smallest side of a target.")
        if alpha is not None and not alpha > 0:
            raise UserError(f"config.adapter.alpha is {alpha}; it must be above 0.")
        self.spec, self.order, self.rank = spec, order, rank
        self.active = tuple(range(start, spec.depth)) if start else None
        self.factor = (rank if alpha is None else alpha) / rank
        self.targets = tuple(sizes)
        self.biased = tuple(name for name in sizes if biases and name not in no_bias)
        parts = {name: 3 if name == "qkv" else 1 for name in sizes}
        self.layers = stacked(lambda r: SoMALayer(sizes, rank, parts, self.biased, rngs=r), spec.depth - start, rngs)

    def decomposed(self, stem: str, values: trees.FlatParams, name: str) -> trees.FlatParams:
        """The factors of one linear map in all blocks: the smallest singular directions of its kernels ("released": of random ones)."""
        kernels = self.gathered(values, name, "kernel")
        if self.order == "released":
            kernels = np.random.default_rng(0).uniform(-1, 1, kernels.shape).astype(np.float32) * kernels.shape[1] ** -0.5
        parts = 3 if name == "qkv" else 1
        rows = kernels.reshape(len(kernels), kernels.shape[1], parts, -1).transpose(0, 2, 1, 3)
        u, s, vt = np.linalg.svd(rows, full_matrices=False)
        root = np.sqrt(s[..., -self.rank :] / self.factor)
        a, b = u[..., -self.rank :] * root[..., None, :], root[..., None] * vt[..., -self.rank :, :]
        keep = 0.0 if self.order == "released" else 1.0
        out = {f"{stem}_a": a, f"{stem}_b": b, f"{stem}_a0": keep * a, f"{stem}_b0": keep * b}
        if name in self.biased:
            bias = self.gathered(values, name, "bias")
            out |= {f"{stem}_bias": bias, f"{stem}_bias0": bias.copy()}
        return out

"""SoMA (Yun et al., CVPR 2025): low-rank tuning in the minor singular directions of the pretrained weights.

For each target W = U S V' (float32, singular values descending) the last r directions become trainable factors A = U_r sqrt(S_r / s),
B = sqrt(S_r / s) V_r', and W keeps the rest: y = x (W - s A0 B0) + x s A B + bias. The backbone's own tree is never touched: the
pretrained factors A0, B0 (and biases) stay in the adapter as frozen leaves and are subtracted: A B - A0 B0 is computed as
(A - A0) B + A0 (B - B0), whose small factors keep their digits in bfloat16.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import nnx

from rein_jax import trees
from rein_jax.adapters.base import Adapter, Site, Stage
from rein_jax.adapters.lora import LowRank, factor_delta, pick_targets, product
from rein_jax.adapters.merge import active_rows, kernel_stacks
from rein_jax.errors import UserError
from rein_jax.layers.attention import query_value
from rein_jax.layers.stack import stacked

TARGETS = ("qkv", "q", "k", "v", "proj", "fc1", "fc2", "w1", "w2", "w3", "w12")


class SoMALayer(LowRank):
    """Trainable factors and biases of one block, and their frozen pretrained twins (suffix 0)."""

    def __init__(self, targets, rank, parts, biases: tuple[str, ...], *, rngs: nnx.Rngs):
        super().__init__(targets, rank, parts, rngs=rngs)
        for name, (_, fan_out) in targets.items():
            for which in "ab":
                setattr(self, f"{name}_{which}0", trees.Fixed(jnp.zeros_like(getattr(self, f"{name}_{which}")[...])))
            if name in biases:
                setattr(self, f"{name}_bias", nnx.Param(jnp.zeros(fan_out)))
                setattr(self, f"{name}_bias0", trees.Fixed(jnp.zeros(fan_out)))


class SoMA(Adapter):
    """rank: r (16). alpha: s = alpha / r; None = r. start: first adapted block (None = a third of the depth: 8 of 24); earlier ones stay
    frozen and need no backward pass. targets: linear maps, () = all of attention and MLP, q, k and v of a fused map each on their own.
    biases: train the targets' biases too. order: "paper" decomposes the pretrained weights; "released" does what the published code does:
    it decomposes random weights and subtracts nothing (to use its published checkpoints). no_bias: targets that have no bias."""

    def __init__(
        self,
        stage: Stage,
        *,
        rngs: nnx.Rngs,
        rank: int = 16,
        alpha: float | None = None,
        start: int | None = None,
        targets: tuple[str, ...] = (),
        biases: bool = True,
        order: str = "paper",
        no_bias: tuple[str, ...] = ("k",),
    ):
        if order not in ("paper", "released"):
            raise UserError(f"config.adapter.order is {order!r}; choose paper or released.")
        start = stage.depth // 3 if start is None else start
        if not 0 <= start < stage.depth:
            raise UserError(f"config.adapter.start is {start}; give a block number below {stage.depth}.")
        sizes = pick_targets(targets, stage, TARGETS)
        small = min(min(size) // (3 if name == "qkv" else 1) for name, size in sizes.items())
        if not 1 <= rank <= small:
            raise UserError(f"config.adapter.rank is {rank}; it must lie between 1 and {small}, the smallest side of a target.")
        if alpha is not None and not alpha > 0:
            raise UserError(f"config.adapter.alpha is {alpha}; it must be above 0.")
        self.stage, self.order, self.rank = stage, order, rank
        self.active = tuple(range(start, stage.depth)) if start else None
        self.factor = (rank if alpha is None else alpha) / rank
        self.targets = tuple(sizes)
        self.biased = tuple(name for name in sizes if biases and name not in no_bias)
        parts = {name: 3 if name == "qkv" else 1 for name in sizes}
        self.layers = stacked(lambda r: SoMALayer(sizes, rank, parts, self.biased, rngs=r), stage.depth - start, rngs)

    def linear(self, site: Site, name: str, x, y):
        if name not in self.targets:
            return y
        (a, b), (a0, b0) = site.layer.factors(name), site.layer.factors(name, "0")
        y = y + (product(x, a - a0, b, self.factor) + product(x, a0, b - b0, self.factor)).astype(y.dtype)
        return y + self.bias_delta(site.layer, name).astype(y.dtype) if name in self.biased else y

    def bias_delta(self, layers: SoMALayer, name: str):
        """What a target's bias has moved by, [..., out]."""
        delta = getattr(layers, f"{name}_bias")[...] - getattr(layers, f"{name}_bias0")[...]
        return delta if self.stage.key_bias or name != "qkv" else query_value(delta)

    def kernel_deltas(self):
        """{target: what to add to the kernels of the active blocks}: exact."""
        return {n: factor_delta(self.layers, n, self.factor) - factor_delta(self.layers, n, self.factor, "0") for n in self.targets}

    def bias_deltas(self):
        return {name: self.bias_delta(self.layers, name) for name in self.biased}

    @classmethod
    def from_backbone(cls, skeleton: trees.Skeleton, values: trees.Flat) -> trees.Flat:
        """The flat dict with this adapter's factors taken from the backbone weights in it."""
        model = trees.merge(skeleton, values)
        out = dict(values)
        for i, adapter in enumerate(model.adapters):
            for name in adapter.targets:
                out.update(adapter.decomposed(f"adapters/{i}/layers/{name}", values, name))
        return out

    def gathered(self, values: trees.Flat, name: str, leaf: str):
        """Kernels or biases of a target in the adapted blocks, [blocks, ...] in float32, from the backbone's stacks."""
        out = []
        for path, blocks in kernel_stacks(values, self.stage, name):
            rows, _ = active_rows(self.active, self.stage, blocks)
            out.append(np.asarray(values[path.removesuffix("kernel") + leaf], np.float32)[rows])
        return np.concatenate(out)

    def decomposed(self, stem: str, values: trees.Flat, name: str) -> trees.Flat:
        """Leaves `{stem}_a`, ... of one target from the backbone's kernels."""
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

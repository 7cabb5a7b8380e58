"""What SoMA and RecycleLoRA share: trainable factors that take the place of a part of the pretrained weights.

For each target W the method chooses factors A0, B0 from W; W keeps the rest: y = x (W - s A0 B0) + x s A B + bias. The backbone's own tree
is never touched: A0 and B0 (and biases) stay in the adapter as frozen leaves (suffix 0) and are subtracted: A B - A0 B0 is computed as
(A - A0) B + A0 (B - B0), whose small factors keep their digits in bfloat16.
"""

from __future__ import annotations

import numpy as np

from rein_jax import trees
from rein_jax.adapters.base import Adapter, LayerContext
from rein_jax.adapters.lora import factor_delta, product
from rein_jax.adapters.merge import active_rows, kernel_stacks
from rein_jax.layers.attention import query_value

TARGETS = ("qkv", "q", "k", "v", "proj", "fc1", "fc2", "w1", "w2", "w3", "w12")


class Decomposed(Adapter):
    """A method states `targets`, `factor` (s) and `biased` (targets whose biases train); its layers have `factors(name, suffix)`.
    It defines `decomposed(stem, values, name)`: the leaves `{stem}_a`, `{stem}_a0`, ... of one target from the backbone's kernels."""

    targets: tuple[str, ...] = ()
    biased: tuple[str, ...] = ()
    factor = 1.0

    def on_linear(self, context: LayerContext, name: str, x, y):
        if name not in self.targets:
            return y
        (a, b), (a0, b0) = context.layer.factors(name), context.layer.factors(name, "0")
        y = y + (product(x, a - a0, b, self.factor) + product(x, a0, b - b0, self.factor)).astype(y.dtype)
        return y + self.bias_delta(context.layer, name).astype(y.dtype) if name in self.biased else y

    def bias_delta(self, layers, name: str):
        """What a target's bias has moved by, [..., out]."""
        delta = getattr(layers, f"{name}_bias")[...] - getattr(layers, f"{name}_bias0")[...]
        return delta if self.spec.key_bias or name != "qkv" else query_value(delta)

    def kernel_deltas(self):
        """{target: what to add to the kernels of the active blocks}: exact."""
        return {n: factor_delta(self.layers, n, self.factor) - factor_delta(self.layers, n, self.factor, "0") for n in self.targets}

    def bias_deltas(self):
        return {name: self.bias_delta(self.layers, name) for name in self.biased}

    @classmethod
    def from_backbone(cls, module_def: trees.ModuleDef, values: trees.FlatParams) -> trees.FlatParams:
        """The flat dict with this adapter's factors taken from the backbone weights in it."""
        model = trees.merge(module_def, values)
        out = dict(values)
        for i, adapter in enumerate(model.adapters):
            for name in adapter.targets:
                out.update(adapter.decomposed(f"adapters/{i}/layers/{name}", values, name))
        return out

    def gathered(self, values: trees.FlatParams, name: str, leaf: str):
        """Kernels or biases of a target in the adapted blocks, [blocks, ...] in float32, from the backbone's stacks."""
        out = []
        for path, blocks in kernel_stacks(values, self.spec, name):
            rows, _ = active_rows(self.active, self.spec, blocks)
            out.append(np.asarray(values[path.removesuffix("kernel") + leaf], np.float32)[rows])
        return np.concatenate(out)

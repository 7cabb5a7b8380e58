"""A tiny DINOv2 with any adapter, and the same network in PyTorch functional form, for the adapters' tests."""

from __future__ import annotations

import functools

import jax
import numpy as np
from flax import nnx

from rein_jax import trees
from rein_jax.backbones.dinov2 import DINOv2, ViTConfig
from rein_jax.backbones.vit import check_out_indices

SIZES = ViTConfig(embed_dim=48, depth=4, num_heads=3)


class Tiny(nnx.Module):
    """A backbone with its adapters; calling it gives the four maps."""

    def __init__(self, method=None, options=None, *, rngs, **backbone):
        self.backbone = DINOv2(SIZES, image_size=64, rngs=rngs, **backbone)
        self.adapters = nnx.List([method(self.backbone.block_specs[0], rngs=rngs, **(options or {}))] if method else [])

    def __call__(self, x, key=None):
        return self.backbone(x, tuple(self.adapters), key)


@functools.cache
def frozen_values() -> trees.FlatParams:
    """Backbone leaves, every one away from its initial value (LayerScale near 1); nothing is initialised by JAX, which would be slow."""
    shapes = trees.flatten(nnx.eval_shape(lambda: Tiny(rngs=nnx.Rngs(0))))
    rng = np.random.default_rng(0)
    draw = {n: rng.standard_normal(s.shape).astype("f4") for n, s in sorted(shapes.items())}
    return {n: 1 + 0.1 * a if n.endswith(("gamma", "scale")) else a * (a.shape[-2] ** -0.5 if a.ndim > 2 else 0.1) for n, a in draw.items()}


def build(method=None, options=None, *, initial: bool = False, seed: int = 1, **backbone):
    """(module_def, all leaves) of a Tiny on `frozen_values`; the adapter's leaves are its initial ones, or random ones."""
    make = lambda key: Tiny(method, options, rngs=nnx.Rngs(params=key), **backbone)
    module_def, _, shapes = trees.split(nnx.eval_shape(lambda: make(jax.random.key(seed))), ())
    own = {n: s for n, s in shapes.items() if n.startswith("adapters/")}
    rng = np.random.default_rng(seed)
    leaves = {n: 0.1 * rng.standard_normal(s.shape).astype("f4") for n, s in sorted(own.items())}
    if initial and own:
        first = jax.jit(lambda key: {n: a for n, a in trees.flatten(make(key)).items() if n in own})(jax.random.key(seed))
        leaves = {n: np.asarray(a) for n, a in first.items()}
    leaves |= frozen_values()
    if hasattr(method, "from_backbone"):
        drawn, leaves = leaves, method.from_backbone(module_def, leaves)
        if not initial:
            leaves |= {n: leaves[n] + drawn[n] for n in own if not n.endswith("0")}
    return module_def, leaves


def run(module_def, leaves, x, key=None):
    return jax.jit(lambda p, x: trees.merge(module_def, p)(x, key))(leaves, x)


def gradients(module_def, leaves, x):
    """(maps, gradients of their sum of squares to the adapter's leaves)."""
    own = {n: a for n, a in leaves.items() if n.startswith("adapters/")}

    def loss(t):
        maps = trees.merge(module_def, {**leaves, **t})(x)
        return sum((m**2).sum() for m in maps), maps

    grads, maps = jax.jit(jax.grad(loss, has_aux=True))(own)
    return maps, grads


def images(n: int = 2, h: int = 64, w: int = 64) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((n, h, w, 3)).astype("f4")


def torch_twin(leaves, x, *, linear=None, mlp=None, enter=None, leave=None):
    """Outputs of the same network in PyTorch: `linear(i, name, x, y)`, ... are a method's twin. Returns the outputs' patch tokens."""
    import torch
    import torch.nn.functional as F

    keep = lambda *a: a[-1]
    linear, mlp, enter, leave = linear or keep, mlp or keep, enter or (lambda i, x: x), leave or (lambda i, x: x)
    p = {n.removeprefix("backbone/"): torch.tensor(np.asarray(a)) for n, a in leaves.items() if n.startswith("backbone/")}
    x = torch.tensor(x)
    b, h, w, _ = x.shape
    cells = x.reshape(b, h // 16, 16, w // 16, 16, 3).permute(0, 1, 3, 2, 4, 5).reshape(b, -1, 768)
    tokens = cells @ p["patch_embed/kernel"].reshape(768, -1) + p["patch_embed/bias"]
    x = torch.cat([p["cls_token"].expand(b, -1, -1), tokens], 1) + p["pos_embed"]
    outputs, d, heads = [], SIZES.embed_dim, SIZES.num_heads
    for i in range(SIZES.depth):
        q = {n.removeprefix("blocks/"): a[i] for n, a in p.items() if n.startswith("blocks/")}
        ln = lambda x, k: F.layer_norm(x, (d,), q[f"{k}/scale"], q[f"{k}/bias"], 1e-6)  # noqa: B023
        fc = lambda x, path, i=i, q=q: linear(i, path.split("/")[1], x, x @ q[f"{path}/kernel"] + q[f"{path}/bias"])
        x = enter(i, x)
        qkv = fc(ln(x, "norm1"), "attn/qkv").reshape(b, -1, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*qkv).transpose(1, 2).reshape(b, -1, d)
        x = x + q["ls1/gamma"] * fc(y, "attn/proj")
        y = q["ls2/gamma"] * fc(F.gelu(fc(ln(x, "norm2"), "mlp/fc1")), "mlp/fc2")
        x = leave(i, x + mlp(i, x, y))
        if i in OUT_INDICES:
            outputs.append(x[:, 1:])
    return outputs


OUT_INDICES = check_out_indices(None, SIZES.depth)

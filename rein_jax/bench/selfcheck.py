"""One training step of a tiny DINOv2 + Rein on the default device, compared with stored numbers.

Parameters and the image are sines of their positions, so nothing random and no file is needed. A wrong driver, a reduced
default precision or a broken build shows as numbers that are off by more than rounding.
"""

from __future__ import annotations

import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from data_pipelines.labels import CITYSCAPES
from rein_jax import trees
from rein_jax.adapters.rein import Rein
from rein_jax.backbones.dinov2 import DINOv2, ViTConfig
from rein_jax.heads.linear import LinearHead
from rein_jax.segmenter import SegmentationModel

# Computed on CPU in float32 (jax 0.10.2); other devices and versions differ by rounding only.
STORED = {"loss": 8.977528, "gradient": 75.61172, "loss_after_step": 8.408028, "highest_score": 11.27913}
TOLERANCE = 1e-3  # relative
RATE = 1e-4


def model() -> nnx.Module:
    """DINOv2 of width 24 and 4 blocks with Rein and a linear head on 64x64 images."""
    rngs = nnx.Rngs(0)
    backbone = DINOv2(ViTConfig(embed_dim=24, depth=4, num_heads=2), image_size=64, rngs=rngs)
    adapter = Rein(backbone, rngs=rngs, num_tokens=6, rank=2, query_dims=8)
    return SegmentationModel(backbone, LinearHead(backbone, len(CITYSCAPES), rngs=rngs), adapter=adapter)


def wave(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32 values of one parameter, between -0.3 and 0.3; norm scales are near 1."""
    places = np.arange(int(np.prod(shape)), dtype=np.float64).reshape(shape)
    values = 0.3 * np.sin(0.7 * places + zlib.crc32(name.encode()) % 1000)
    return (values + (1.0 if name.endswith(("scale", "gamma")) else 0.0)).astype(np.float32)


def compute() -> dict[str, float]:
    """The numbers of STORED on the default device, with exact float32 products."""
    module_def, trainable, frozen = trees.split(nnx.eval_shape(model), ("adapters/", "head/"))
    trainable, frozen = ({name: wave(name, leaf.shape) for name, leaf in part.items()} for part in (trainable, frozen))
    places = np.arange(2 * 64 * 64 * 3).reshape(2, 64, 64, 3)
    batch = {"image": (127.5 + 120 * np.sin(0.013 * places)).astype(np.uint8),
             "label": (places[..., 0] // 700 % 19).astype(np.uint8), "size": np.full((2, 2), 64, np.int32)}

    @jax.jit
    def step(trainable, frozen, batch):
        loss_of = lambda t: trees.merge(module_def, t, frozen).loss(batch, jax.random.key(0))[0]
        loss, gradients = jax.value_and_grad(loss_of)(trainable)
        after = {name: value - RATE * gradients[name] for name, value in trainable.items()}
        norm = jnp.sqrt(sum(jnp.sum(g.astype(jnp.float32) ** 2) for g in gradients.values()))
        scores = trees.merge(module_def, trainable, frozen).scores(batch["image"])
        return {"loss": loss, "gradient": norm, "loss_after_step": loss_of(after), "highest_score": scores.max()}

    with jax.default_matmul_precision("highest"):
        return {name: float(value) for name, value in step(trainable, frozen, batch).items()}


def check() -> dict[str, Any]:
    """{"ok", "worst" relative deviation, "found", "stored"}."""
    found = compute()
    worst = max(abs(found[name] - value) / abs(value) if np.isfinite(found[name]) else np.inf for name, value in STORED.items())
    return {"ok": bool(worst <= TOLERANCE), "worst": worst, "found": found, "stored": STORED}

"""Model files of a tiny DINOv2 with random weights, small enough to predict in milliseconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from data_pipelines.labels import CITYSCAPES, ClassInfo
from rein_jax import build, trees
from rein_jax.backbones import BACKBONES
from rein_jax.backbones.dinov2 import DINOv2, ViTConfig
from rein_jax.configuration import default, set_method
from rein_jax.losses import LOSS_OF
from rein_jax.weights.modelfile import write_model

BACKBONES["dinov2_tiny"] = "rein_jax.backbones.dinov2:DINOv2"
DINOv2.VARIANTS["tiny"] = ViTConfig(embed_dim=24, depth=4, num_heads=2)
HEADS = {"linear": {"name": "linear"}, "semantic_fpn": {"name": "semantic_fpn", "channels": 8, "head_channels": 8},
         "mask2former": {"name": "mask2former", "channels": 16, "groups": 4, "heads": 8, "encoder_ffn": 16, "decoder_ffn": 16,
                         "encoder_layers": 1, "decoder_layers": 3}}


def tiny_config(method: str = "rein", head: str = "linear", crop: int = 64, image_size: int = 64) -> ConfigDict:
    """A config of the tiny model; window `crop` with half steps."""
    config = default()
    config.name = f"tiny-{method}"
    config.backbone.name, config.backbone.image_size, config.backbone.weights = "dinov2_tiny", image_size, "random"
    set_method(config, method)
    if method == "rein":
        config.adapter = {"name": "rein", "num_tokens": 20, "rank": 2, "query_dims": 16}
    config.head = dict(HEADS[head], **({"num_queries": 20} if head == "mask2former" else {}))
    config.loss = {"name": LOSS_OF[head]}
    config.eval.crop, config.eval.stride, config.eval.batch = crop, crop // 2, 2
    return config


def tiny_parts(config: ConfigDict, classes: ClassInfo = CITYSCAPES, seed: int = 0):
    """(module_def, trainable, frozen) with every leaf away from its initial value, so that adapters and heads matter."""
    module_def, trainable, frozen, _ = build.build_params(config, classes)
    rng = np.random.default_rng(seed)
    moved = {name: np.asarray(a) + 0.2 * rng.standard_normal(a.shape).astype("f4") for name, a in sorted(trainable.items())}
    return module_def, moved, {name: np.asarray(a) for name, a in frozen.items()}


def write_tiny(path: str | Path, method: str = "rein", head: str = "linear", classes: ClassInfo = CITYSCAPES, seed: int = 0, crop: int = 64,
               **meta) -> Path:
    """A model file with everything in it."""
    config = tiny_config(method, head, crop)
    _, trainable, frozen = tiny_parts(config, classes, seed)
    arrays = {name: np.asarray(a) for name, a in {**frozen, **trainable}.items()}
    write_model(path, arrays, {
        "config": config.to_dict(), "classes": list(classes.names), "palette": [list(c) for c in classes.palette],
        "weights": {"name": "dinov2_tiny", "source": "random", "sha256": ""}, "preprocessing": {}, "step": 0, **meta,
    })  # fmt: skip
    return Path(path)


def tiny_model(method: str = "rein", head: str = "linear", classes: ClassInfo = CITYSCAPES, seed: int = 0) -> nnx.Module:
    """The same model in memory."""
    return trees.merge(*tiny_parts(tiny_config(method, head), classes, seed))

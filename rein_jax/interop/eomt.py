"""Published EoMT models (backbone and head in one file) as ours: the official checkpoints and transformers' EomtForUniversalSegmentation.

Those with DINOv2. (The official DINOv3 files hold differences to Meta's weights, which this does not add up.)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rein_jax.backbones.dinov2 import FINAL_NORM
from rein_jax.backbones.dinov2 import formats as backbone_formats
from rein_jax.backbones.names import Rules, fused_qkv, linear, norm, patch_embed
from rein_jax.errors import UserError
from rein_jax.weight_rules import Rule, prefixed
from rein_jax.weights.checkpoint import as_checkpoint
from rein_jax.weights.load import Fit, Format, Summary, load_scheme
from rein_jax.weights.prefix import plain

_OURS, _HF = "backbone/blocks/", "layers.{layer}."


def _head(query: str, classify: str, embed: tuple[str, str, str], block: str, last: str) -> Rules:
    """The head's parameters; block: a ScaleBlock, `{i}` being its number, last: the name of its norm."""
    return (
        Rule(f"{query}.weight", "head/query"),
        *linear(classify, "head/cls_embed"),
        *(rule for k, name in enumerate(embed) for rule in linear(name, f"head/mask_embed/{k}")),
        Rule(f"{block}.conv1.weight", "head/upscale/{i}/conv1/kernel", "conv_transpose"),
        Rule(f"{block}.conv1.bias", "head/upscale/{i}/conv1/bias"),
        Rule(f"{block}.conv2.weight", "head/upscale/{i}/conv2/kernel", "conv"),
        *norm(f"{block}.{last}", "head/upscale/{i}/norm"),
    )


def _hf() -> Rules:
    return (
        Rule("embeddings.cls_token", "backbone/cls_token"),
        Rule("embeddings.register_tokens", "backbone/register_tokens"),
        Rule("embeddings.position_embeddings.weight", "backbone/pos_embed", "expand", resize="pos_embed"),
        *patch_embed("embeddings.patch_embeddings.projection"),
        *(rule for name in ("norm1", "norm2") for rule in norm(_HF + name, _OURS + name)),
        *fused_qkv(f"{_HF}attention.", f"{_OURS}attn/qkv", ("q_proj", "k_proj", "v_proj")),
        *linear(f"{_HF}attention.out_proj", f"{_OURS}attn/proj"),
        *(rule for theirs, ours in (("fc1", "fc1"), ("fc2", "fc2"), ("weights_in", "w12"), ("weights_out", "w3"))
          for rule in linear(f"{_HF}mlp.{theirs}", f"{_OURS}mlp/{ours}")),
        *(Rule(f"{_HF}layer_scale{k}.lambda1", f"{_OURS}ls{k}/gamma") for k in (1, 2)),
        *norm("layernorm", "backbone/norm"),
        *_head("query", "class_predictor", ("mask_head.fc1", "mask_head.fc2", "mask_head.fc3"), "upscale_block.block.{i}", "layernorm2d"),
    )


def formats(backbone: Any) -> dict[str, Format]:
    """Tables of names by format, of a DINOv2 variant."""
    encoder = (*backbone_formats(backbone)["timm"][0], *norm(FINAL_NORM["timm"], "backbone/norm"))
    head = _head("q", "class_head", ("mask_head.0", "mask_head.2", "mask_head.4"), "upscale.{i}", "norm")
    official = (*prefixed(encoder, source="network.encoder.backbone."), *prefixed(head, source="network."))
    skip = (r"network\.attn_mask_probs", r"network\.encoder\.pixel_(mean|std)", r"criterion\..*")
    return {"official": (official, skip), "hf": (_hf(), (r"attn_mask_probs", r"criterion\..*"))}


def import_eomt(source: str | Path | Mapping[str, Any], shapes: Mapping[str, Any], backbone: Any, grid: tuple[int, int]
                ) -> tuple[dict[str, np.ndarray], Summary]:
    """A published EoMT model as our flat dict, strictly.

    shapes: all our parameters ({name: .shape, .dtype}). backbone: a registered name (or ViTConfig, in tests). grid: patches (h, w) of the
    position embedding. Raises UserError naming file and key.
    """
    if isinstance(backbone, str) and not backbone.startswith("dinov2_"):
        raise UserError(f"Published EoMT models are read with DINOv2 backbones, not with {backbone}; give another config.")
    return load_scheme(shapes, plain(as_checkpoint(source)), formats(backbone), fit=Fit(grid=grid))

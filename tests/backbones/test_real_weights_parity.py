"""The published DINOv2-S on a photograph: every block equals an independent torch model with the same file, at the original patch 14."""

import os
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from rein_jax import trees
from rein_jax.backbones.dinov2 import DINOv2
from rein_jax.backbones.pretrained import load_backbone
from rein_jax.backbones.run_blocks import run_blocks
from rein_jax.errors import UserError
from rein_jax.segmenter import IMAGENET_MEAN, IMAGENET_STD
from rein_jax.weights import fetch
from rein_jax.weights.checkpoint import read_checkpoint
from tests.filling import assert_layers

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
SIDE = 518  # the size of the published position embedding: nothing is resized


def photograph() -> np.ndarray:
    """A street photograph if CamVid is available ($REIN_DATA/camvid or the cache of this machine), else a drawn scene; uint8 RGB."""
    import cv2

    for folder in (Path(os.environ.get("REIN_DATA", "")) / "camvid", Path("/opt/cache/CamVid")):
        frames = sorted((folder / "test").glob("*.png"))
        if frames:
            return cv2.resize(cv2.imread(str(frames[0]))[:, :, ::-1], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    return np.stack([127 + 120 * np.sin(9 * x * (k + 1) + 5 * y) * np.cos(4 * y * (3 - k)) for k in range(3)], -1).astype(np.uint8)


@pytest.mark.slow
def test_dinov2_s_equals_transformers_on_a_photograph(tmp_path, recorded):
    try:
        path = fetch.ensure("dinov2_vits14")
    except UserError as error:
        pytest.skip(str(error))
    images = ((photograph().astype(np.float32) - IMAGENET_MEAN) / IMAGENET_STD)[None].astype(np.float32)

    module_def, _, shapes = trees.split(nnx.eval_shape(lambda: Whole()), ())
    values, _ = load_backbone(path, "dinov2_vits14", shapes)

    def run(params, images):
        backbone = trees.merge(module_def, params).backbone
        x, _ = backbone.embed(images)
        context = backbone.context((37, 37), x.dtype)
        return [x, *run_blocks(backbone.blocks, x, num_prefix_tokens=1, out_indices=tuple(range(12)), context=context)[1]]

    ours = jax.jit(run)(values, images)

    config = transformers.Dinov2Config(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=SIDE, patch_size=14)
    config.save_pretrained(tmp_path)
    arrays = {hf_name(name): np.ascontiguousarray(array) for name, array in published(path)}
    arrays.setdefault("embeddings.mask_token", np.zeros((1, 384), np.float32))
    save_file(arrays, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model, report = transformers.Dinov2Model.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    modules = {"embedding": model.embeddings, **{f"block {i}": block for i, block in enumerate(model.encoder.layer)}}
    theirs = recorded(modules, lambda: model.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2))))
    assert_layers(zip(theirs, ours, theirs.values(), strict=True), tolerance=1e-4)


class Whole(nnx.Module):
    """The backbone under its name in the whole model."""

    def __init__(self):
        self.backbone = DINOv2("vits14", patch=14, image_size=SIDE, rngs=nnx.Rngs(0))


def published(path):
    """(name, array) of the file; the official .pth has fused q, k and v, which are split here."""
    for name, array in read_checkpoint(path).items():
        array = np.asarray(array, np.float32)
        if ".attn.qkv." in name:
            for part, kind in zip(np.split(array, 3), ("query", "key", "value"), strict=True):
                yield name.replace("attn.qkv", f"attention.attention.{kind}"), part
        else:
            yield name, array


def hf_name(name: str) -> str:
    """An official name as HF writes it; HF names pass."""
    if name.startswith(("embeddings.", "encoder.", "layernorm.")):
        return name
    pairs = (
        ("blocks.", "encoder.layer."), ("attn.proj", "attention.output.dense"), ("ls1.gamma", "layer_scale1.lambda1"),
        ("ls2.gamma", "layer_scale2.lambda1"), ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
        ("pos_embed", "embeddings.position_embeddings"), ("cls_token", "embeddings.cls_token"), ("mask_token", "embeddings.mask_token"),
    )  # fmt: skip
    for theirs, hf in pairs:
        name = name.replace(theirs, hf)
    return name.replace("norm.", "layernorm.", 1) if name.startswith("norm.") else name

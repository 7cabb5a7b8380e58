"""Checkpoints of the official SoMA code (`backbone.model.*` with `lora_A`, `lora_B`; `decode_head.*`), read and written.

The official model keeps q, k and v apart and its factors as torch linears, [r, in] and [out, r]; ours are stacked over the adapted blocks,
[L, parts, in, r] and [L, parts, r, out / parts]. Whole files hold the frozen backbone too; extracted ones (`extract_soma_weights.py`) hold
factors, biases and head. In which order a file was trained (see `adapters.soma.SoMA`) is told by its frozen weights: those of the paper's
order have lost the rank of the factors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rein_jax.backbones import dinov2
from rein_jax.errors import UserError
from rein_jax.heads.mask2former import rules as head_rules
from rein_jax.weight_rules import prefixed, unplace
from rein_jax.weights.checkpoint import as_checkpoint
from rein_jax.weights.load import Summary, load_into
from rein_jax.weights.torch_write import write_torch

ROOT = "backbone.model."
PARTS = {"qkv": ("attn.q", "attn.k", "attn.v"), "q": ("attn.q",), "k": ("attn.k",), "v": ("attn.v",), "proj": ("attn.proj",),
         "fc1": ("mlp.fc1",), "fc2": ("mlp.fc2",)}  # our linear map -> the official ones, in order
FACTOR = re.compile(r"backbone\.model\.blocks\.(\d+)\.((?:attn|mlp)\.\w+)\.lora_A\.weight")
LOST = 1e-4  # of the largest singular value: below it a direction was taken out


def is_soma(names: Sequence[str]) -> bool:
    """Whether a checkpoint's names are those of the official SoMA code."""
    return any(FACTOR.fullmatch(name) for name in names)


def import_soma(source: Any, shapes: Mapping[str, Any], *, order: str) -> tuple[dict[str, np.ndarray], Summary]:
    """An official SoMA checkpoint as our flat dict.

    Args:
        source: path or mapping, whole or extracted.
        shapes: our trainable parameters, {name: .shape, .dtype}.
        order: of the config, "paper" or "released".

    Returns:
        (values by our names, summary).

    Raises:
        UserError: another rank, other blocks or another order than the config's, a key that is missing or not known.
    """
    checkpoint = as_checkpoint(source)
    found = sorted({int(hit[1]) for name in checkpoint if (hit := FACTOR.fullmatch(name))})
    if not found:
        raise UserError(f"{checkpoint.path} is no checkpoint of the official SoMA code: it has no key {ROOT}blocks.*.lora_A.weight.")
    _check_order(checkpoint, found, order)
    values: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        hit = re.fullmatch(r"adapters/0/layers/(\w+)_(a|b|bias)", name)
        if hit:
            values[name] = _leaf(checkpoint, found, hit[1], hit[2], shape)
    head = {name: shape for name, shape in shapes.items() if name.startswith("head/")}
    read, summary = load_into(head, checkpoint, head_rules("decode_head.", "head/"), (r"backbone\..*", r"data_preprocessor\..*"))
    summary.loaded += sorted(values)
    left = sorted(shapes.keys() - values.keys() - read.keys())
    if left:
        raise UserError(f"{checkpoint.path} holds nothing for {left[0]!r}; import it with method=soma and head=mask2former.")
    return {**values, **read}, summary


def _leaf(checkpoint: Any, blocks: Sequence[int], target: str, kind: str, shape: Any) -> np.ndarray:
    """One of our stacked leaves from the file."""
    official = {"a": "lora_A.weight", "b": "lora_B.weight", "bias": "bias"}[kind]
    if len(blocks) != shape.shape[0] or blocks != list(range(blocks[0], blocks[0] + len(blocks))):
        raise UserError(f"{checkpoint.path} adapts the blocks {blocks[0]} to {blocks[-1]}, {len(blocks)} of them, and this config "
                        f"{shape.shape[0]}; set config.adapter.start={blocks[0]} and the backbone it was trained on.")
    rows = []
    for block in blocks:
        names = [f"{ROOT}blocks.{block}.{part}.{official}" for part in PARTS[target]]
        missing = [name for name in names if name not in checkpoint]
        if missing:
            raise UserError(f"{checkpoint.path} lacks {missing[0]!r}, which an official SoMA checkpoint has; copy the file again.")
        parts = [np.asarray(checkpoint[name]) for name in names]
        rows.append(np.concatenate(parts) if kind == "bias" else np.stack([part.T for part in parts]))
    value = np.stack(rows).astype(np.float32)
    if value.shape != tuple(shape.shape):
        raise UserError(f"{checkpoint.path}: {target}'s {official} make {value.shape}, and this config needs {tuple(shape.shape)}; set "
                        f"config.adapter.rank={value.shape[-1 if kind == 'a' else -2]} and the backbone it was trained on.")
    return value


def _check_order(checkpoint: Any, blocks: Sequence[int], order: str) -> None:
    """The frozen weights of the paper's order have lost the directions that the factors took; those of the released code are whole."""
    stem = f"{ROOT}blocks.{blocks[0]}.attn.proj."
    if stem + "weight" not in checkpoint:
        if order != "released":
            raise UserError(f"{checkpoint.path} holds no frozen weights; the official tools that write such a file fit the released order "
                            "alone: add --config.adapter.order=released.")
        return
    singular = np.linalg.svd(np.asarray(checkpoint[stem + "weight"], np.float32), compute_uv=False)
    rank = min(checkpoint[stem + "lora_A.weight"].shape)
    found = "paper" if singular[-rank] < LOST * singular[0] else "released"
    if found != order:
        raise UserError(f"{checkpoint.path} was trained in the {found} order, and the config says {order}; add "
                        f"--config.adapter.order={found}.")


def export_soma(leaves: Mapping[str, np.ndarray], path: str | Path | None = None, *, start: int, factor: float,
                wrapper: str = "") -> dict[str, np.ndarray]:
    """A whole SoMA model under the names of the official code.

    Args:
        leaves: every array of the model by our names, backbone and the adapter's frozen twins included.
        path: of the .pth file to write, or None.
        start: first adapted block. factor: s = alpha / r.
        wrapper: "state_dict" nests as mmengine's own checkpoints do.

    Returns:
        {official name: array}: everything but `mask_token` and the last norm, which the model does not use.

    Raises:
        UserError: a parameter that the official code does not have.
    """
    rest = {name: np.asarray(array) for name, array in leaves.items() if not name.startswith("adapters/")}
    table = (*prefixed(dinov2.RULES, source=ROOT), *head_rules("decode_head.", "head/"))
    out, uncovered = unplace(table, rest)
    layers = {name.removeprefix("adapters/0/layers/"): np.asarray(array) for name, array in leaves.items() if name not in rest}
    unknown = [name for name in layers if re.sub(r"_(a|b|bias)0?$", "", name) not in PARTS]
    if uncovered or unknown:
        raise UserError(f"{[*sorted(uncovered), *unknown][0]!r} has no name in the official SoMA code; only SoMA on a DINOv2 without "
                        "registers, with a Mask2Former, can be exported.")
    for name in [name for name in out if ".attn.qkv." in name]:
        array = out.pop(name)
        out |= {name.replace(".qkv.", f".{part}."): third for part, third in zip("qkv", np.split(array, 3), strict=True)}
    for target in sorted({re.sub(r"_(a|b|bias)0?$", "", name) for name in layers}):
        _put(out, layers, target, start, factor)
    out = {name: np.ascontiguousarray(array) if array.ndim else array for name, array in sorted(out.items())}
    if path is not None:
        write_torch(path, out, wrapper)
    return out


def _put(out: dict[str, np.ndarray], layers: Mapping[str, np.ndarray], target: str, start: int, factor: float) -> None:
    """Factors, biases and residual weights of one linear map of the adapted blocks."""
    a, b, a0, b0 = (layers[f"{target}_{which}"] for which in ("a", "b", "a0", "b0"))
    for layer in range(len(a)):
        for k, part in enumerate(PARTS[target]):
            stem = f"{ROOT}blocks.{start + layer}.{part}."
            out[stem + "lora_A.weight"], out[stem + "lora_B.weight"] = a[layer, k].T, b[layer, k].T
            taken = factor * (a0[layer, k].astype(np.float64) @ b0[layer, k]).T  # zero in the released order
            out[stem + "weight"] = (out[stem + "weight"] - taken).astype(np.float32)
            if f"{target}_bias" in layers:
                out[stem + "bias"] = np.split(layers[f"{target}_bias"][layer], len(PARTS[target]))[k]

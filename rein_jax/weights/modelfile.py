"""A trained model as one self-contained .safetensors file: arrays by our names, everything needed to use them as metadata.

The usual form holds the trainable leaves and names the frozen backbone by its hash; the full form also holds the backbone.
Every array's SHA-256 is in the metadata, so a file that was changed or damaged is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.paths import local_path
from rein_jax.errors import UserError
from rein_jax.weights.checkpoint import read_checkpoint
from rein_jax.weights.entries import Checkpoint
from rein_jax.weights.manifest import PUBLISHED
from rein_jax.weights.safetensors_file import check_hashes, write_safetensors

FORMAT = "rein_jax model 1"


def write_model(path: str | Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Writes a model file (whole or not at all).

    arrays: {flat name: array}; with names under `backbone/` it is the full form, unless those are what was trained. meta: JSON-able
    entries: config, classes (names), palette, preprocessing (mean, std), weights (name, source, sha256 of the backbone's file),
    frozen (hash of the frozen weights), protocol, numbers (any), step, ...; the backbone's licence is added by its name.
    """
    entries = {"licence": licence_note(meta.get("weights") or {}), **meta, "format": FORMAT}
    metadata = {key: json.dumps(value, default=_plain, sort_keys=True) for key, value in entries.items()}
    write_safetensors(path, arrays, metadata, hashes=True)


def read_model(path: str | Path, *, check: bool = True) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays by flat name, meta) of a model file; `check` compares every array with its recorded SHA-256.

    Raises UserError, one sentence, for files that are not model files, damaged or changed.
    """
    path = local_path(path)
    checkpoint = read_checkpoint(path)
    meta = read_meta(path, checkpoint)
    check_hashes(checkpoint, arrays=check)
    return {name: checkpoint[name] for name in checkpoint}, meta


def read_meta(path: str | Path, checkpoint: Checkpoint | None = None) -> dict[str, Any]:
    """The metadata of a model file, without reading its arrays."""
    checkpoint = checkpoint if checkpoint is not None else read_checkpoint(path)
    try:
        meta = {key: json.loads(value) for key, value in checkpoint.metadata.items() if key != "sha256"}
    except json.JSONDecodeError:
        meta = {}
    if meta.get("format") != FORMAT:
        raise UserError(f"{path} ({checkpoint.kind}) is not a model that rein wrote ({FORMAT!r}); "
                        "official checkpoints are imported with: rein convert.")
    return meta


def is_model(checkpoint: Checkpoint) -> bool:
    """True for a file that `write_model` wrote."""
    return checkpoint.metadata.get("format") == json.dumps(FORMAT)


def licence_note(weights: Mapping[str, Any]) -> str:
    """Under which licence the backbone's weights were published."""
    item = PUBLISHED.get(str(weights.get("name", "")))
    if weights.get("source") == "random":
        return "The backbone has random weights."
    return f"Backbone {weights['name']}: {item.licence}, {item.page}" if item else "The licence of the backbone's weights is unknown."


def check_backbone(path: str | Path, meta: Mapping[str, Any], found: str) -> None:
    """Refuses to put a model's adapters on other frozen weights than they were trained on. found: the frozen weights' hash now."""
    wanted = meta.get("frozen", "")
    if wanted and found and wanted != found:
        raise UserError(f"{path} was trained on frozen weights with the hash {wanted}, those at hand have {found}; "
                        "use the same backbone weights.")


def _plain(value: Any) -> Any:
    """NumPy values, paths and config sections as JSON."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"the metadata of a model cannot hold a {type(value).__name__}")

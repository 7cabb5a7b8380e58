"""A trained model as one self-contained .safetensors file: arrays by our names, everything needed to use them as metadata.

The usual form holds the trainable leaves and names the frozen backbone by its hash; the full form also holds the backbone.
Every array's SHA-256 is in the metadata, so a file that was changed or damaged is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.labels import ClassInfo
from rein_jax.errors import UserError
from rein_jax.weights.checkpoint import read_checkpoint
from rein_jax.weights.entries import Checkpoint
from rein_jax.weights.manifest import PUBLISHED
from rein_jax.weights.safetensors_file import check_hashes, write_safetensors

FORMAT = "rein_jax model 1"
LARGEST = 4_000_000_000  # parameters of a model; the largest backbone has 1.1e9


def write_model(path: str | Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Writes a model file (whole or not at all).

    arrays: {flat name: array}; with names under `backbone/` it is the full form, unless those are what was trained. meta: JSON-able
    entries: config, classes (names), palette, preprocessing (mean, std), weights (name, source, sha256 of the backbone's file),
    frozen (hash of the frozen weights), protocol, numbers (any), step, ...; the backbone's licence is added by its name.
    """
    entries = {"licence": licence_note(meta.get("weights") or {}), **meta, "format": FORMAT}
    metadata = {key: json.dumps(value, default=_plain, sort_keys=True) for key, value in entries.items()}
    write_safetensors(path, arrays, metadata, hashes=True)


def read_model(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays by flat name, meta) of a model file; every array is compared with its recorded SHA-256.

    Raises UserError, one sentence, for files that are not model files, damaged or changed, and for values that are not finite.
    """
    checkpoint = read_checkpoint(path)
    meta = read_meta(path, checkpoint)
    arrays = {name: checkpoint[name] for name in checkpoint}
    check_hashes(checkpoint, arrays)
    for name, array in arrays.items():
        if array.dtype.kind not in "iub" and not np.isfinite(array).all():
            raise UserError(f"{path}: {name!r} holds values that are not finite (NaN or infinity); use an earlier model of its run.")
    return arrays, meta


def read_meta(path: str | Path, checkpoint: Checkpoint | None = None) -> dict[str, Any]:
    """The metadata of a model file, checked against its recorded hash and by types, without reading its arrays."""
    checkpoint = checkpoint if checkpoint is not None else read_checkpoint(path)
    try:
        meta = {key: json.loads(value) for key, value in checkpoint.metadata.items() if key != "sha256"}
    except (ValueError, RecursionError):
        meta = {}
    if meta.get("format") != FORMAT:
        raise UserError(f"{path} ({checkpoint.kind}) is not a model that rein wrote ({FORMAT!r}); "
                        "official checkpoints are imported with: rein convert.")
    if not check_hashes(checkpoint):
        raise UserError(f"{path} was changed after it was written; it is refused (its list of hashes is missing).")
    for key, value in meta.items():
        kind = _KINDS.get(key, object)
        if not isinstance(value, kind) or key == "palette" and not _colours(value) or key == "classes" and not _names(value):
            raise UserError(f"{path}: {key!r} in its metadata is {_short(value)}, not a valid {_WORDS.get(key, 'object')}; another program "
                            "wrote the file, or it was changed.")
    return meta


_KINDS: dict[str, Any] = {
    "config": dict, "preprocessing": dict, "evaluation": dict, "imported_from": dict, "weights": dict, "classes": list, "palette": list,
    "licence": str, "version": str, "frozen": str, "step": int | float | None,
}
_WORDS = {"classes": "list of names", "palette": "list of colours [r, g, b] of 0 to 255", "licence": "text", "version": "text",
          "frozen": "text", "step": "number"}


def _names(value: list) -> bool:
    return 0 < len(value) < 256 and all(isinstance(name, str) for name in value)


def _colours(value: list) -> bool:
    """The colours of a palette: triples of whole numbers up to 255."""
    return all(isinstance(colour, list) and len(colour) == 3 and all(type(n) is int and 0 <= n < 256 for n in colour) for colour in value)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else f"{text[:57]}..."


def class_list(path: str | Path, meta: Mapping[str, Any]) -> ClassInfo:
    """Names and colours of the classes of a model file; UserError where the file lacks them or they do not belong together."""
    names, palette = meta.get("classes"), meta.get("palette")
    if not names or palette is None or len(names) != len(palette):
        found = [f"{len(part)} {word}" if part else f"no {word}" for part, word in ((names, "classes"), (palette, "colours"))]
        raise UserError(f"{path} names {' and '.join(found)} in its metadata; another program wrote the file, or it was changed.")
    return ClassInfo(tuple(names), tuple(tuple(colour) for colour in palette))


def missing_arrays(path: str | Path, arrays: Mapping[str, np.ndarray], shapes: Mapping[str, Any], needed: Set[str]) -> set[str]:
    """Names of the arrays of a model that its file lacks.

    shapes: all of the model's ({name: .shape}). needed: those that the file must hold. Raises UserError for a missing one of these, an
    array that is none of the model's, and a model larger than any.
    """
    strangers = [name for name in arrays if name not in shapes or tuple(arrays[name].shape) != tuple(shapes[name].shape)]
    if strangers:
        raise UserError(f"{path}: {strangers[0]!r} does not fit the model of its own config; it was changed or is of another version.")
    missing = shapes.keys() - arrays.keys()
    lost = sorted(missing & needed)
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise UserError(f"{path} is not whole: it lacks {lost[0]!r}{more}, which a model of its config has; only frozen weights of the "
                        "backbone may be missing. Copy the file again, or write it anew from its run.")
    parameters = sum(math.prod(map(int, shape.shape)) for shape in shapes.values())  # of any size: np.prod would overflow
    if parameters > LARGEST:
        raise UserError(f"{path}: a model of its config has {parameters:.1e} parameters, more than any model has; the file was changed.")
    return missing


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
        raise UserError(f"{path} was trained on frozen weights with the hash {wanted}, the ones loaded have {found}; "
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

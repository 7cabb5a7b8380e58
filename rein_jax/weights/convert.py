"""Checkpoints from one file format to another, tensor by tensor bit-identical, names and shapes as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_pipelines.paths import local_path
from rein_jax.errors import UserError
from rein_jax.weights.checkpoint import read_checkpoint
from rein_jax.weights.entries import Checkpoint
from rein_jax.weights.safetensors_file import check_hashes, write_safetensors
from rein_jax.weights.torch_write import write_torch

FORMATS = ("safetensors", "torch")
_SUFFIXES = {".safetensors": "safetensors", ".pth": "torch", ".pt": "torch"}
_KEPT = "rein_wrapper"  # metadata: the dictionaries the arrays were nested in


def format_of(path: Path, chosen: str | None = None) -> str:
    """The format to write: the chosen one, or what the file's ending says."""
    if chosen in FORMATS:
        return chosen
    if path.suffix not in _SUFFIXES:
        raise UserError(f"{path} ends neither in .safetensors nor in .pth; say which with --to {' or --to '.join(FORMATS)}.")
    return _SUFFIXES[path.suffix]


def writable(source: Path, target: Path, force: bool) -> None:
    """Refuses to overwrite."""
    if target.exists() and target.resolve() == source.resolve():
        raise UserError(f"{target} is the source itself; give another name.")
    if target.exists() and not force:
        raise UserError(f"{target} exists; remove it or pass --force.")


def convert(source: Path, target: Path, to: str | None = None, *, force: bool = False, part: str = "") -> Checkpoint:
    """Writes the arrays of `source` to `target` and returns the opened source. The source is read once, array by array. part: only what
    stands under this dotted name, which is taken off the names.

    .safetensors files get every array's SHA-256; one that was changed since is refused as a source.
    """
    source, target = local_path(source), local_path(target)
    to = format_of(target, to)
    writable(source, target, force)
    checkpoint = read_checkpoint(source, part)
    if not part:
        check_hashes(checkpoint, checkpoint)
    if to == "safetensors":
        kept = {_KEPT: checkpoint.wrapper} if checkpoint.wrapper else {}
        write_safetensors(target, checkpoint, {"source": source.name, "format": checkpoint.kind, **kept}, hashes=True)
    else:
        write_torch(target, checkpoint, checkpoint.wrapper or checkpoint.metadata.get(_KEPT, ""))
    return checkpoint


def same(a: Checkpoint, b: Checkpoint) -> bool:
    """True if both hold the same names, dtypes, shapes and bytes."""
    if set(a) != set(b):
        return False
    for name in a:
        if a.entries[name].dtype != b.entries[name].dtype or a.entries[name].shape != b.entries[name].shape:
            return False
        if np.ascontiguousarray(a[name]).tobytes() != np.ascontiguousarray(b[name]).tobytes():
            return False
    return True

"""One door to checkpoints of any kind: arrays by name, without torch and without running any code."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.paths import local_path
from rein_jax.errors import UserError
from rein_jax.weights.entries import Checkpoint, Entry, check_regular, unreadable
from rein_jax.weights.npz_file import read_npz
from rein_jax.weights.onnx_file import looks_like_onnx, read_onnx
from rein_jax.weights.safetensors_file import looks_like_safetensors, read_safetensors
from rein_jax.weights.sharded import is_index, open_folder, read_index
from rein_jax.weights.torch_file import read_torch
from rein_jax.weights.torch_legacy import MAGIC, read_legacy
from rein_jax.weights.torch_state import only

_ZIPS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")  # full signatures: a .safetensors may begin with "PK" too
_DAMAGES = (zipfile.BadZipFile, OSError, ValueError, OverflowError, NotImplementedError, RuntimeError, struct.error)


def read_checkpoint(path: str | Path, part: str = "") -> Checkpoint:
    """Opens .safetensors, .npz, PyTorch's .pth/.pt/.bin, TorchScript archives and .onnx, told apart by their content; also Hugging Face's
    folders and indices of shards (*.index.json).

    part: read only what stands under this dotted name ("student", "model.teacher"), which is taken off the names.

    Nothing is read but names, shapes and offsets; no code stored in the file is run. Raises UserError, one sentence that
    names the file, for everything that is not such a file or that is damaged or hostile.
    """
    try:
        path = local_path(path)
        checkpoint = _open(open_folder(path) if path.is_dir() else path, unwrap=not part)
        if any(not name.isascii() and name != name.encode("utf-8", "replace").decode() for name in checkpoint):
            raise UserError(f"{path} holds a name that is not valid text (an unpaired UTF-16 surrogate); it is "
                            "damaged or hostile and is refused.")
        return only(checkpoint, part) if part else checkpoint
    except UserError as error:  # a damaged file may put line breaks into its names
        raise UserError(" ".join(str(error).split())) from None


def _open(path: Path, unwrap: bool = True) -> Checkpoint:
    """unwrap: open the dictionaries that PyTorch's files nest their weights in."""
    head = _head(path)
    if looks_like_safetensors(head):
        return read_safetensors(path)
    if head.startswith(_ZIPS):
        return _zip(path, unwrap)
    if head.startswith(MAGIC):
        return read_legacy(path, unwrap)
    if path.suffix == ".onnx" or looks_like_onnx(head):
        return read_onnx(path)
    if is_index(path):
        return read_index(path, lambda shard: _open(shard, unwrap))
    raise UserError(_not_a_checkpoint(path, head))


def as_checkpoint(source: str | Path | Mapping[str, Any]) -> Checkpoint:
    """A path opened, a Checkpoint as it is, or a mapping of arrays wrapped."""
    if isinstance(source, Checkpoint):
        return source
    if isinstance(source, (str, Path)):
        return read_checkpoint(source)

    def entry(array) -> Entry:
        array = np.asarray(array)
        return Entry(array.shape, array.dtype, lambda: array)

    return Checkpoint(Path("memory"), "arrays", {name: entry(array) for name, array in source.items()})


def _head(path: Path) -> bytes:
    """The first bytes of the file."""
    check_regular(path)
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise unreadable(path, error) from None
    if not head:
        raise UserError(f"{path} is empty; download it again.")
    return head


def _zip(path: Path, unwrap: bool) -> Checkpoint:
    """A zip file: NumPy's .npz or PyTorch's format."""
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGES as error:
        raise UserError(f"{path} is a damaged or truncated zip file ({error}); download or copy it again.") from None
    with archive:
        names = archive.namelist()
        try:
            if any(name.endswith(".npy") for name in names) and not any(name.endswith("data.pkl") for name in names):
                return read_npz(path, names)
            return read_torch(path, archive, unwrap)
        except _DAMAGES as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{path} is a damaged zip file ({error}); download or copy it again.") from None


def _not_a_checkpoint(path: Path, head: bytes) -> str:
    """The sentence for a file that none of the readers takes."""
    text = head.lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        return f"{path} is a git-lfs pointer, not the file itself; run `git lfs pull` or download the file."
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return f"{path} is a web page (a failed download), not a checkpoint; download it again."
    if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") or b"pickle" in head[:200]:
        return (f"{path} is a bare pickle that torch.save did not write, which is not read; "
                "save its arrays with numpy.savez or, where PyTorch is installed, as a dictionary of tensors with torch.save.")
    if head[257:262] == b"ustar":
        return f"{path} is a tar archive; unpack it and give the checkpoint inside it (.safetensors, .npz, .pth or .onnx)."
    if head.startswith(_PACKED):
        return f"{path} is compressed (gzip, bzip2, xz or zstd); unpack it first."
    if head.startswith(b"\x89HDF"):
        return f"{path} is an HDF5 (Keras) file; give a .safetensors, .npz, .pth or .onnx file."
    if text.startswith((b"{", b"[")):
        return f"{path} is a JSON file; give the checkpoint it belongs to (.safetensors, .npz, .pth or .onnx)."
    return f"{path} is not a checkpoint that can be read (.safetensors, .npz, PyTorch .pth/.pt, .onnx), or it is damaged."


_PACKED = (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")

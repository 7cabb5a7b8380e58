"""One door to checkpoint files of any kind: arrays by name, memory-mapped, without torch and without running any code."""

from __future__ import annotations

import mmap
import os
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.paths import local_path
from rein_jax.errors import UserError


class Mapped:
    """A file's bytes, mapped read-only into memory: `data` is a uint8 array."""

    def __init__(self, path: Path):
        with path.open("rb") as file:
            self.pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if os.fstat(file.fileno()).st_size else None
        self.data = np.frombuffer(b"" if self.pages is None else self.pages, np.uint8)

    def release(self) -> None:
        """Drops the pages that were read so far from this process; they stay readable."""
        if self.pages is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.pages.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class Entry:
    """One array of a file, not yet read."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Checkpoint(Mapping):
    """The arrays of a file by name; `checkpoint[name]` reads one (a read-only view of the mapped file where possible).

    kind: what the file is, for messages. wrapper: the nested dictionaries that were opened ("state_dict", "model", ...).
    metadata: text stored beside the arrays (safetensors). Names keep the file's own spelling.
    """

    path: Path
    kind: str
    entries: dict[str, Entry]
    wrapper: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    mapped: Mapped | None = None

    def release(self) -> None:
        """Gives the memory of what was read back to the system (it is read again from the file where it is needed)."""
        if self.mapped is not None:
            self.mapped.release()

    def __getitem__(self, name: str) -> np.ndarray:
        return self.entries[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """{name: shape}, without reading anything."""
        return {name: entry.shape for name, entry in self.entries.items()}

    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(int(np.prod(e.shape, dtype=np.int64)) * e.dtype.itemsize for e in self.entries.values())


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Opens .safetensors, .npz, PyTorch .pth/.pt (zip format), TorchScript archives and .onnx, told apart by their content.

    Nothing is read but names, shapes and offsets; no code stored in the file is run. Raises UserError, one sentence that
    names the file, for everything that is not such a file or that is damaged or hostile.
    """
    try:
        return _open(local_path(path))
    except UserError as error:  # a damaged file may put line breaks into its names
        raise UserError(" ".join(str(error).split())) from None


def _open(path: Path) -> Checkpoint:
    head = _head(path)
    if head.startswith(b"PK"):
        return _zip(path)
    if len(head) > 8 and int.from_bytes(head[:8], "little") < 1 << 28 and head[8:9] == b"{":
        from rein_jax.weights.safetensors_file import read_safetensors

        return read_safetensors(path)
    if path.suffix == ".onnx":
        from rein_jax.weights.onnx_file import read_onnx

        return read_onnx(path)
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
    if path.is_dir():
        raise UserError(f"{path} is a directory; give the checkpoint file inside it.")
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from None
    if not head:
        raise UserError(f"{path} is empty; download it again.")
    return head


def _zip(path: Path) -> Checkpoint:
    """A zip file: NumPy's .npz or PyTorch's format."""
    from rein_jax.weights.torch_file import read_torch

    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"{path} is a damaged or truncated zip file ({error}); download or copy it again.") from None
    with archive:
        names = archive.namelist()
        if any(name.endswith(".npy") for name in names) and not any(name.endswith("data.pkl") for name in names):
            return _npz(path, names)
        try:
            return read_torch(path, archive)
        except (OSError, ValueError, OverflowError, struct.error) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{path} is a damaged zip file ({error}); download or copy it again.") from None


def _npz(path: Path, names: list[str]) -> Checkpoint:
    """NumPy's .npz; members are read when asked for."""
    if len(set(names)) != len(names):
        raise UserError(f"{path} holds two arrays of one name; it is refused.")
    entries = {}
    for name in names:
        if name.endswith(".npy"):
            shape, dtype = _npy_header(path, name)
            entries[name.removesuffix(".npy")] = Entry(shape, dtype, lambda name=name: _npy(path, name))
    return Checkpoint(path, "NumPy .npz file", entries)


def _npy_header(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of a member; refuses arrays of Python objects (they are pickles) and impossible sizes."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as member:
            version = np.lib.format.read_magic(member)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(member)
            room = archive.getinfo(name).file_size
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path}: the array {name} is damaged ({error}).") from None
    if dtype.hasobject:
        raise UserError(f"{path}: the array {name} holds Python objects (a pickle); only numbers are read.")
    if min(shape, default=0) < 0 or int(np.prod(shape, dtype=object)) * dtype.itemsize > room:
        raise UserError(f"{path}: the array {name} says it is {shape}, which is more than the file holds.")
    return shape, dtype


def _npy(path: Path, name: str) -> np.ndarray:
    """One member, read."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as member:
            return np.lib.format.read_array(member, allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, MemoryError) as error:
        raise UserError(f"{path}: the array {name!r} is damaged ({' '.join(str(error).split())}).") from None


def _not_a_checkpoint(path: Path, head: bytes) -> str:
    """The sentence for a file that none of the readers takes."""
    text = head.lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        return f"{path} is a git-lfs pointer, not the file itself; run `git lfs pull` or download the file."
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return f"{path} is a web page (a failed download), not a checkpoint; download it again."
    if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") or b"pickle" in head[:200]:
        return (f"{path} is a bare pickle (PyTorch's format before 1.6, or none of PyTorch's), which is not read; "
                "where PyTorch is at hand, re-save it once: torch.save(torch.load(file, weights_only=True), file).")
    if head.startswith(b"\x89HDF"):
        return f"{path} is an HDF5 (Keras) file; give a .safetensors, .npz, .pth or .onnx file."
    if text.startswith((b"{", b"[")):
        return f"{path} is a JSON file; give the checkpoint it belongs to (.safetensors, .npz, .pth or .onnx)."
    return f"{path} is not a checkpoint that can be read (.safetensors, .npz, PyTorch zip .pth/.pt, .onnx), or it is damaged."

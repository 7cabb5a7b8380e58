"""PyTorch's zip format (.pth, .pt) and TorchScript archives: tensors read from the file's own records.

Layout of the archive: `<name>/data.pkl` describes the objects, `<name>/data/<key>` are the bytes of the storages, stored
uncompressed. Every number that the pickle gives is checked against the archive before anything is read.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rein_jax.errors import UserError
from rein_jax.weights.entries import MOST_AXES, Checkpoint, Entry, FileBytes
from rein_jax.weights.torch_pickle import LARGEST, StorageRef, TensorRef, unpickle
from rein_jax.weights.torch_state import find_tensors


def read_torch(path: Path, archive: zipfile.ZipFile, unwrap: bool = True) -> Checkpoint:
    """The tensors of an open archive by name."""
    file = FileBytes(path)
    records, root = _records(path, archive)
    if records.get(f"{root}/byteorder"):
        order = _small(file, records[f"{root}/byteorder"], 16)
        if order.strip() != b"little":
            raise UserError(f"{path} was written on a big-endian machine, which is not read.")
    if records[f"{root}/data.pkl"][1] > LARGEST:
        raise UserError(f"{path} has a pickle of more than {LARGEST >> 20} MiB, more than any checkpoint needs; it is refused.")
    top = unpickle(_small(file, records[f"{root}/data.pkl"], LARGEST), str(path))
    kind = "TorchScript archive" if f"{root}/constants.pkl" in records else "PyTorch file"
    tensors, wrapper, beside = find_tensors(top, path, unwrap)
    storages = {name.removeprefix(f"{root}/data/"): record for name, record in records.items() if name.startswith(f"{root}/data/")}
    entries = {name: tensor_entry(file, name, ref, storages) for name, ref in tensors.items()}
    return Checkpoint(path, kind, entries, wrapper, beside=beside)


def _records(path: Path, archive: zipfile.ZipFile) -> tuple[dict[str, tuple[int, int]], str]:
    """({record: (offset of its bytes, length)}, name of the archive's folder), all inside the file and apart from each other."""
    size = path.stat().st_size
    records: dict[str, tuple[int, int]] = {}
    with path.open("rb") as file:
        for info in archive.infolist():
            if info.filename in records:
                raise UserError(f"{path} holds the record {info.filename!r} twice; it is refused.")
            file.seek(info.header_offset)
            head = file.read(30)
            if len(head) < 30 or head[:4] != b"PK\x03\x04":
                raise UserError(f"{path} is a damaged zip file (no record at the place of {info.filename!r}).")
            start = info.header_offset + 30 + sum(struct.unpack("<HH", head[26:30]))
            needed = info.filename.endswith("data.pkl") or "/data/" in info.filename
            if info.compress_type != zipfile.ZIP_STORED and needed:
                raise UserError(f"{path} holds the compressed record {info.filename!r}; PyTorch never compresses, it is refused.")
            if start + info.compress_size > size:
                raise UserError(f"{path} is truncated: the record {info.filename!r} ends beyond the file.")
            records[info.filename] = (start, info.compress_size)
    end, last = 0, ""
    for start, length, name in sorted((s, n, name) for name, (s, n) in records.items()):
        if start < end:
            raise UserError(f"{path}: the records {last!r} and {name!r} overlap; it is refused.")
        end, last = start + length, name
    roots = [name.removesuffix("/data.pkl") for name in records if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise UserError(f"{path} is a zip file but not one of PyTorch's ({len(roots)} data.pkl); give the checkpoint itself.")
    return records, roots[0]


def _small(file: FileBytes, record: tuple[int, int], most: int) -> bytes:
    """The bytes of a small record."""
    return file.read(record[0], min(record[1], most)).tobytes()


def tensor_entry(file: FileBytes, name: str, ref: TensorRef, storages: Mapping[str, tuple[int, int]]) -> Entry:
    """A tensor whose storage, bounds and strides have been checked. storages: {key: (offset in the file, bytes)}."""

    def refuse(why: str) -> UserError:
        return UserError(f"{file.path}: the tensor {name!r} {why}; the file is damaged or hostile and is refused.")

    storage = ref.storage
    if not isinstance(storage, StorageRef):
        raise refuse("has no storage")
    dtype = ref.dtype or storage.dtype
    if storage.key not in storages:
        raise refuse(f"names the missing storage {storage.key!r}")
    start, stored = storages[storage.key]
    room = storage.numel * storage.dtype.itemsize
    start += storage.first * storage.dtype.itemsize
    if room + storage.first * storage.dtype.itemsize > stored:
        raise refuse(f"needs {room} bytes of a storage that has {stored}")
    size, stride, offset = ref.size, ref.stride, ref.offset
    numbers = isinstance(size, (tuple, list)) and isinstance(stride, (tuple, list)) and len(size) == len(stride) <= MOST_AXES
    if not numbers or not all(type(n) is int and n >= 0 for n in [*size, *stride, offset]):
        raise refuse("has impossible sizes or strides")
    if 0 in size:
        return Entry(tuple(size), dtype, lambda: np.zeros(size, dtype))
    span = 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if (offset + span) * dtype.itemsize > room:
        raise refuse("reaches beyond its storage")
    reach = 1
    for step, n in sorted((step, n) for step, n in zip(stride, size, strict=True) if n > 1):
        if step < reach:
            raise refuse(f"overlaps itself (strides {tuple(stride)})")
        reach = step * (n - 1) + reach

    def read() -> np.ndarray:
        flat = file.array(start + offset * dtype.itemsize, (span,), dtype)
        return np.lib.stride_tricks.as_strided(flat, size, [step * dtype.itemsize for step in stride], writeable=False)

    return Entry(tuple(size), dtype, read)

"""PyTorch's zip format (.pth, .pt) and TorchScript archives: tensors as views of the mapped file.

Layout of the archive: `<name>/data.pkl` describes the objects, `<name>/data/<key>` are the bytes of the storages, stored
uncompressed. Every number that the pickle gives is checked against the archive before a view is made of it.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rein_jax.errors import UserError
from rein_jax.weights.checkpoint import Checkpoint, Entry, Mapped
from rein_jax.weights.torch_pickle import LARGEST, Inert, StorageRef, TensorRef, unpickle

# Nested dictionaries that hold the weights, the preferred one first; the others of a file are not looked at.
WRAPPERS = ("state_dict", "model_state_dict", "model_ema", "ema", "model", "teacher", "module", "net", "params", "student",
            "weights")
_ASIDE = ("optimizer", "optimizers", "optim", "optimizer_state_dict", "scaler", "lr_scheduler", "scheduler", "param_schedulers",
          "message_hub", "meta", "args", "config", "cfg", "amp", "loss_scaler")


def read_torch(path: Path, archive: zipfile.ZipFile) -> Checkpoint:
    """The tensors of an open archive by name."""
    records, root = _records(path, archive)
    if records.get(f"{root}/byteorder"):
        order = _bytes(path, records[f"{root}/byteorder"], 16)
        if order.strip() != b"little":
            raise UserError(f"{path} was written on a big-endian machine, which is not read.")
    pickled = _bytes(path, records[f"{root}/data.pkl"], LARGEST + 1)
    top = unpickle(pickled, str(path))
    script = f"{root}/constants.pkl" in records
    tensors, wrapper = find_tensors(top, path)
    mapped = Mapped(path)
    entries = {name: _entry(path, name, ref, records, root, mapped.data) for name, ref in tensors.items()}
    return Checkpoint(path, "TorchScript archive" if script else "PyTorch file", entries, wrapper, mapped=mapped)


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


def _bytes(path: Path, record: tuple[int, int], most: int) -> bytes:
    """The bytes of a small record."""
    with path.open("rb") as file:
        file.seek(record[0])
        return file.read(min(record[1], most))


def find_tensors(top: Any, path: Path) -> tuple[dict[str, TensorRef], str]:
    """({name: tensor}, the wrappers opened, joined by '.'): a state dict wherever it hides in the object."""
    opened: list[str] = []
    while isinstance(top, Mapping) and not any(isinstance(value, TensorRef) for value in top.values()):
        inner = next((key for key in WRAPPERS if isinstance(top.get(key), (Mapping, Inert)) and any(_walk(top[key], path))), None)
        if inner is None or len(opened) == 8:
            break
        opened.append(inner)
        top = top[inner]
    tensors: dict[str, TensorRef] = {}
    for name, ref in _walk(top, path):
        if name in tensors:
            raise UserError(f"{path} holds the key {name!r} twice; it is refused.")
        tensors[name] = ref
    if not tensors:
        raise UserError(f"{path} holds no tensors.")
    return tensors, ".".join(opened)


def _walk(top: Any, path: Path) -> Iterator[tuple[str, TensorRef]]:
    """(dotted name, tensor) of nested dictionaries, pickled modules and TorchScript objects; cycles are not followed."""
    seen: set[int] = set()
    stack: list[tuple[str, Any]] = [("", top)]
    while stack:
        prefix, value = stack.pop()
        if isinstance(value, TensorRef):
            yield prefix.removesuffix("."), value
            continue
        if len(prefix) > 4096:
            raise UserError(f"{path} is refused: its pickle nests dictionaries without end.")
        children = _children(value, at_top=not prefix)
        if children is None or id(value) in seen:
            continue
        seen.add(id(value))
        stack.extend((f"{prefix}{name}." if name else prefix, child) for name, child in reversed(children))


def _children(value: Any, at_top: bool) -> list[tuple[str, Any]] | None:
    """The named parts of a container, or None for anything else."""
    if isinstance(value, Mapping):
        named = [(str(key), child) for key, child in value.items() if isinstance(key, (str, int))]
        return [(key, child) for key, child in named if isinstance(child, TensorRef) or not (at_top and key in _ASIDE)]
    if isinstance(value, Inert):
        state = value.__dict__["state"]
        if "_parameters" in state and "_modules" in state:  # a whole pickled nn.Module
            return [("", state[part]) for part in ("_parameters", "_buffers", "_modules") if isinstance(state.get(part), Mapping)]
        return [(key, child) for key, child in state.items() if isinstance(key, str)]
    return None


def _entry(path: Path, name: str, ref: TensorRef, records: Mapping, root: str, mapped: np.ndarray) -> Entry:
    """A tensor whose storage, bounds and strides have been checked."""

    def refuse(why: str) -> UserError:
        return UserError(f"{path}: the tensor {name!r} {why}; the file is damaged or hostile and is refused.")

    storage = ref.storage
    if not isinstance(storage, StorageRef):
        raise refuse("has no storage")
    dtype = ref.dtype or storage.dtype
    record = records.get(f"{root}/data/{storage.key}")
    if record is None:
        raise refuse(f"names the missing storage {storage.key!r}")
    room = storage.numel * storage.dtype.itemsize
    if room > record[1]:
        raise refuse(f"needs {room} bytes of a storage that has {record[1]}")
    size, stride, offset = ref.size, ref.stride, ref.offset
    numbers = isinstance(size, (tuple, list)) and isinstance(stride, (tuple, list)) and len(size) == len(stride) <= 32
    if not numbers or not all(type(n) is int and n >= 0 for n in [*size, *stride, offset]):
        raise refuse("has impossible sizes or strides")
    if 0 not in size:
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if (last + 1) * dtype.itemsize > room:
            raise refuse("reaches beyond its storage")
        reach = 1
        for step, n in sorted((step, n) for step, n in zip(stride, size, strict=True) if n > 1):
            if step < reach:
                raise refuse(f"overlaps itself (strides {tuple(stride)})")
            reach = step * (n - 1) + reach
    start = record[0]

    def read() -> np.ndarray:
        if 0 in size:
            return np.zeros(size, dtype)
        flat = np.ndarray((room // dtype.itemsize,), dtype, mapped[start:start + room].data)
        steps = [step * dtype.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(flat[offset:], size, steps, writeable=False)

    return Entry(tuple(size), dtype, read)

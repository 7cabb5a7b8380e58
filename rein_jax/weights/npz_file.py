"""NumPy's .npz: members are read when they are asked for, pickled ones never."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from rein_jax.errors import UserError
from rein_jax.weights.entries import Checkpoint, Entry

_DAMAGES = (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError, MemoryError)


def read_npz(path: Path, names: list[str]) -> Checkpoint:
    """The arrays of an archive whose members are `names`."""
    if len(set(names)) != len(names):
        raise UserError(f"{path} holds two arrays of one name; it is refused.")
    entries = {}
    for name in names:
        if name.endswith(".npy"):
            shape, dtype = _header(path, name)
            entries[name.removesuffix(".npy")] = Entry(shape, dtype, lambda name=name: _array(path, name))
    return Checkpoint(path, "NumPy .npz file", entries)


def _header(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of a member; refuses arrays of Python objects (they are pickles) and impossible sizes."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as member:
            version = np.lib.format.read_magic(member)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(member)
            room = archive.getinfo(name).file_size
    except _DAMAGES as error:
        raise UserError(f"{path}: the array {name} is damaged ({error}).") from None
    if dtype.hasobject:
        raise UserError(f"{path}: the array {name} holds Python objects (a pickle); only numbers are read.")
    if min(shape, default=0) < 0 or int(np.prod(shape, dtype=object)) * dtype.itemsize > room:
        raise UserError(f"{path}: the array {name} says it is {shape}, which is more than the file holds.")
    return shape, dtype


def _array(path: Path, name: str) -> np.ndarray:
    """One member, read."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as member:
            return np.lib.format.read_array(member, allow_pickle=False)
    except _DAMAGES as error:
        raise UserError(f"{path}: the array {name!r} is damaged ({' '.join(str(error).split())}).") from None

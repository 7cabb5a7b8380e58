"""PyTorch's format from before 1.6 (`_use_new_zipfile_serialization=False` still writes it): pickles in a row, then the storages.

Magic number, protocol, facts about the machine, the object, the keys of the storages; then for each key its number of elements (64 bits)
and their bytes. The pickles are read as those of the zip format are: nothing that they name is ever called.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rein_jax.errors import UserError
from rein_jax.weights.entries import Checkpoint, FileBytes
from rein_jax.weights.torch_file import tensor_entry
from rein_jax.weights.torch_pickle import LARGEST, StorageRef, unpickle_at
from rein_jax.weights.torch_state import find_tensors

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_PROTOCOL = 1001


def read_legacy(path: Path, unwrap: bool = True) -> Checkpoint:
    """The tensors of the file by name."""
    file = FileBytes(path)
    head = file.read(0, min(file.size, LARGEST)).tobytes()
    place, parts = 0, []
    refs: dict[str, StorageRef] = {}
    for _ in range(5):
        part, place = unpickle_at(head, place, str(path), refs)
        parts.append(part)
    _, protocol, machine, top, keys = parts
    if protocol != _PROTOCOL:
        raise UserError(f"{path} has the protocol {protocol!r} of PyTorch's old format, which is not read; save it again with torch.save.")
    if isinstance(machine, Mapping) and machine.get("little_endian") is False:
        raise UserError(f"{path} was written on a big-endian machine, which is not read.")
    storages = _storages(file, place, keys, refs)
    tensors, wrapper, beside = find_tensors(top, path, unwrap)
    entries = {name: tensor_entry(file, name, ref, storages) for name, ref in tensors.items()}
    return Checkpoint(path, "PyTorch file (from before 1.6)", entries, wrapper, beside=beside)


def _storages(file: FileBytes, place: int, keys: Any, refs: Mapping[str, StorageRef]) -> dict[str, tuple[int, int]]:
    """{key: (offset of its bytes in the file, their number)}: the storages follow each other up to the file's end."""
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in refs for key in keys) or len(set(keys)) != len(keys):
        raise UserError(f"{file.path} is damaged: the list of its storages is not that of its tensors.")
    out = {}
    for key in keys:
        count = int.from_bytes(file.read(place, 8).tobytes(), "little")
        size = count * refs[key].dtype.itemsize
        if place + 8 + size > file.size:
            raise UserError(f"{file.path} is truncated: the storage {key!r} ends beyond the file; download or copy it again.")
        out[key] = (place + 8, size)
        place += 8 + size
    return out

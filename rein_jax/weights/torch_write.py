"""Writing PyTorch's zip format without torch: a flat state dict that `torch.load(file, weights_only=True)` reads.

The archive holds a pickle that names `collections.OrderedDict`, `torch._utils._rebuild_tensor_v2` and the storage types, and
one uncompressed record of bytes per tensor, aligned to 64 bytes as torch writes them.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rein_jax.errors import UserError
from rein_jax.weights.safetensors_file import array_specs, atomic, little_endian_bytes
from rein_jax.weights.torch_pickle import DTYPES, STORAGES

_TYPES = {np.dtype(DTYPES[name]): storage for storage, name in reversed(STORAGES.items()) if storage != "UntypedStorage"}
_ROOT = "archive"


def write_torch(path: str | Path, arrays: Mapping[str, np.ndarray], wrapper: str = "") -> None:
    """Writes {name: array} as a PyTorch file (whole or not at all); `wrapper="state_dict"` nests it as mmengine does
    ("a.b": twice).

    `arrays` may be lazy: each is read once. Raises UserError for a dtype that PyTorch's classic storages lack.
    """
    specs = array_specs(arrays)
    for name, (_, dtype) in specs.items():
        if dtype not in _TYPES:
            raise UserError(f"{name!r} has dtype {dtype}, which cannot be written to a .pth file; write .safetensors instead.")
    with atomic(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        _record(archive, file, "data.pkl", _pickle(specs, wrapper))
        _record(archive, file, "byteorder", b"little")
        for key, name in enumerate(specs):
            _record(archive, file, f"data/{key}", little_endian_bytes(arrays[name]))
        _record(archive, file, "version", b"3\n")


def _record(archive: zipfile.ZipFile, file, name: str, data) -> None:
    """One record whose bytes begin at a multiple of 64; the padding is an extra field of the zip header."""
    info = zipfile.ZipInfo(f"{_ROOT}/{name}", date_time=(1980, 1, 1, 0, 0, 0))
    zip64 = len(data) >= zipfile.ZIP64_LIMIT
    used = file.tell() + 30 + len(info.filename.encode()) + (20 if zip64 else 0) + 4
    padding = -used % 64
    info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    with archive.open(info, "w", force_zip64=zip64) as record:
        record.write(data)


def _pickle(specs: Mapping[str, tuple[tuple[int, ...], np.dtype]], wrapper: str) -> bytes:
    """The pickle (protocol 2) of an OrderedDict of tensors."""
    entries = b"".join(_text(name) + _tensor(str(key), *spec) for key, (name, spec) in enumerate(specs.items()))
    ordered = b"ccollections\nOrderedDict\n)R(" + entries + b"u"
    for key in reversed(wrapper.split(".") if wrapper else ()):
        ordered = b"}" + _text(key) + ordered + b"s"
    return b"\x80\x02" + ordered + b"."


def _tensor(key: str, shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """The call that rebuilds a contiguous tensor on the storage `key`."""
    numel = int(np.prod(shape, dtype=np.int64))
    strides = [int(np.prod(shape[i + 1:], dtype=np.int64)) if numel else 1 for i in range(len(shape))]
    storage = b"(" + _text("storage") + f"ctorch\n{_TYPES[dtype]}\n".encode() + _text(key) + _text("cpu") + _int(numel) + b"tQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = b"(" + storage + _int(0) + _ints(shape) + _ints(strides) + b"\x89" + hooks + b"t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _int(number: int) -> bytes:
    if number < 1 << 31:
        return b"J" + struct.pack("<i", number)
    data = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _ints(numbers) -> bytes:
    return b"(" + b"".join(_int(int(n)) for n in numbers) + b"t"

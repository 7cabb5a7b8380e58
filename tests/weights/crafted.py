"""Builds PyTorch-style archives by hand, so that tests can make damaged and hostile ones without torch."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    data = value.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def numbers(values) -> bytes:
    return b"(" + b"".join(number(v) for v in values) + b"t"


def tensor(key="0", numel=6, offset=0, size=(2, 3), stride=(3, 1), storage="FloatStorage") -> bytes:
    """Opcodes of a tensor on a storage record."""
    reference = b"(" + text("storage") + f"ctorch\n{storage}\n".encode() + text(key) + text("cpu") + number(numel) + b"tQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    return (b"ctorch._utils\n_rebuild_tensor_v2\n(" + reference + number(offset) + numbers(size) + numbers(stride)
            + b"\x89" + hooks + b"tR")


def dictionary(entries: dict[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(name) + value for name, value in entries.items()) + b"u"


def pickled(value: bytes) -> bytes:
    return b"\x80\x02" + value + b"."


DATA = np.arange(6, dtype=np.float32).tobytes()


def archive(path: Path, pickle: bytes, storages: dict[str, bytes] | None = None, *, compress: bool = False, root: str = "archive") -> Path:
    """A zip file as torch.save writes it."""
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as file:
        file.writestr(f"{root}/data.pkl", pickle)
        for key, data in ({"0": DATA} if storages is None else storages).items():
            file.writestr(f"{root}/data/{key}", data)
    return path


def legacy(value: bytes, storages: dict[str, bytes], *, protocol: int = 1001, little: bool = True, itemsize: int = 4) -> bytes:
    """A file as torch.save wrote it before 1.6: five pickles, then each storage's number of elements and bytes."""
    machine = dictionary({"little_endian": b"\x88" if little else b"\x89"})
    keys = b"](" + b"".join(text(key) for key in storages) + b"e"
    magic = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
    head = magic + b"".join(pickled(part) for part in (number(protocol), machine, value, keys))
    return head + b"".join(struct.pack("<q", len(data) // itemsize) + data for data in storages.values())

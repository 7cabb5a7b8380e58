"""The weights stored in an .onnx file, read from its protobuf wire format without the onnx package and without running it.

Exporters keep most parameters under their PyTorch names, but fold the transpose of `Linear` into anonymous initialisers
(`onnx::MatMul_1966`). The node that uses one still says where it stood ("/encoder/layer.0/mlp/fc1/MatMul"), so it is given
back its name ("encoder.layer.0.mlp.fc1.weight") and its (out, in) layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np

from rein_jax.errors import UserError
from rein_jax.weights.entries import Checkpoint, Entry, FileBytes

# TensorProto.DataType -> dtype, and the field that holds the values when they are not in raw_data.
_DTYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_,
           10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64, 16: ml_dtypes.bfloat16}
_FIELDS = {4: np.float32, 10: np.float64}  # packed little-endian float_data, double_data

_PRODUCER, _GRAPH, _OPSET = 2, 7, 8  # ModelProto
_NODE, _INITIALIZER = 1, 5  # GraphProto
_DIMS, _TYPE, _INT32, _INT64, _NAME, _RAW, _LOCATION = 1, 2, 5, 7, 8, 9, 14  # TensorProto


def looks_like_onnx(head: bytes) -> bool:
    """True where the first bytes of a file are the first fields of a ModelProto, its version and who wrote it or the graph."""
    if head[:1] != b"\x08" or not 0 < head[1] < 128:
        return False
    return head[2] in (_PRODUCER << 3 | 2, _GRAPH << 3 | 2, _OPSET << 3 | 2)


def read_onnx(path: Path) -> Checkpoint:
    """The initialisers of the graph by name; transposed anonymous ones get the name and layout of their Linear back."""
    path = Path(path)
    file = FileBytes(path)
    if file.size > 1 << 31:
        raise UserError(f"{path} has {file.size / 1e9:.1f} GB, and an .onnx file ends at 2 GB; it is damaged or something else.")
    data = file.read(0, file.size)
    data.flags.writeable = False
    try:
        graphs = [span for field, span in _messages(data, 0, len(data)) if field == _GRAPH]
        if not graphs:
            raise ValueError("it holds no graph")
        entries, nodes = _graph(data, *graphs[-1])
    except (ValueError, IndexError, UnicodeDecodeError, TypeError, KeyError, OverflowError) as error:
        raise UserError(f"{path} is a damaged .onnx file ({error}).") from None
    if not entries:
        raise UserError(f"{path} holds no weights.")
    return Checkpoint(path, "ONNX model", _named(entries, nodes))


def _graph(data: np.ndarray, first: int, last: int) -> tuple[dict[str, Entry], list[dict]]:
    """(initialisers, nodes) of a GraphProto."""
    entries, nodes = {}, []
    for field, span in _messages(data, first, last):
        if field == _INITIALIZER:
            name, entry = _tensor(data, *span)
            if name in entries:
                raise ValueError(f"the name {name!r} appears twice")
            entries[name] = entry
        elif field == _NODE:
            nodes.append(_node(data, *span))
    return entries, nodes


def _varint(data: np.ndarray, at: int, last: int) -> tuple[int, int]:
    """(number, next position)."""
    value = shift = 0
    while at < last and shift < 70:
        byte = int(data[at])
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("a number does not end")


def _messages(data: np.ndarray, at: int, last: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """(field, (first, last)) of every field of a message; a varint's span is (its value, -1)."""
    while at < last:
        key, at = _varint(data, at, last)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at, last)
            yield key >> 3, (value, -1)
            continue
        if wire == 2:
            size, at = _varint(data, at, last)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"unknown wire type {wire}")
        if at + size > last:
            raise ValueError("a field ends beyond the file")
        yield key >> 3, (at, at + size)
        at += size


def _varints(data: np.ndarray, span: tuple[int, int]) -> list[int]:
    """A repeated integer field: one value, or many packed."""
    if span[1] == -1:
        return [span[0]]
    out, at = [], span[0]
    while at < span[1]:
        value, at = _varint(data, at, span[1])
        out.append(value)
    return out


def _text(data: np.ndarray, span: tuple[int, int]) -> str:
    """A string field."""
    return bytes(data[span[0]:span[1]]).decode("utf-8")


def _tensor(data: np.ndarray, first: int, last: int) -> tuple[str, Entry]:
    """(name, array) of a TensorProto; the values are views of `data`."""
    shape: list[int] = []
    kind, name, values, dtype_of_values, integers = 0, "", None, None, []
    for field, span in _messages(data, first, last):
        if field == _DIMS:
            shape += _varints(data, span)
        elif field == _TYPE:
            kind = span[0]
        elif field == _NAME:
            name = _text(data, span)
        elif field == _RAW:
            values = span
        elif field in _FIELDS and span[1] != -1:
            values, dtype_of_values = span, _FIELDS[field]
        elif field in (_INT32, _INT64):
            integers += _varints(data, span)
        elif field == _LOCATION and span[0] == 1:
            raise ValueError(f"the weights {name!r} are in another file")
    if kind not in _DTYPES:
        raise ValueError(f"the weights {name!r} have the unknown type {kind}")
    dtype = np.dtype(_DTYPES[kind])
    if dtype_of_values is not None and dtype != dtype_of_values:
        raise ValueError(f"the weights {name!r} are stored as another type than they say")
    count = int(np.prod(shape, dtype=object)) if shape else 1
    if values is None:
        stored = np.array(integers, dtype=object).astype(np.int64) if integers else np.zeros(0, np.int64)
        if len(stored) != count:
            raise ValueError(f"the weights {name!r} of shape {shape} have {len(stored)} values")
        return name, Entry(tuple(shape), dtype, lambda: stored.astype(dtype).reshape(shape))
    if values[1] - values[0] != count * dtype.itemsize:
        raise ValueError(f"the weights {name!r} of shape {shape} have {values[1] - values[0]} bytes")
    return name, Entry(tuple(shape), dtype, lambda: np.ndarray(tuple(shape), dtype, data[values[0]:values[1]].data))


def _node(data: np.ndarray, first: int, last: int) -> dict:
    """Inputs, outputs, name and type of a NodeProto."""
    node: dict = {"inputs": [], "outputs": [], "name": "", "type": ""}
    for field, span in _messages(data, first, last):
        if field in (1, 2):
            node["inputs" if field == 1 else "outputs"].append(_text(data, span))
        elif field in (3, 4):
            node["name" if field == 3 else "type"] = _text(data, span)
    return node


def _named(entries: dict[str, Entry], nodes: list[dict]) -> dict[str, Entry]:
    """Anonymous right-hand sides of MatMul nodes under their Linear's name and layout; everything else as it is."""
    out = dict(entries)
    for node in nodes:
        weight = next((i for i in node["inputs"][1:2] if i.startswith("onnx::") and i in out), None)
        if node["type"] != "MatMul" or weight is None or len(out[weight].shape) != 2:
            continue
        name = node["name"].strip("/").removesuffix("MatMul").strip("/").replace("/", ".") + ".weight"
        if name not in out:
            entry = out.pop(weight)
            out[name] = Entry(entry.shape[::-1], entry.dtype, lambda read=entry.read: read().T)
    return out

"""Reading and writing .safetensors array by array, so that neither holds a second copy.

Not with the library `safetensors`: it maps files into memory (one that is cut short meanwhile ends the process or reads as zeros), has no
float8 for NumPy, and writes no file that can be checked array by array.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path

import ml_dtypes
import numpy as np

from data_pipelines import atomic as atomic_file
from data_pipelines.paths import local_path
from rein_jax.errors import UserError
from rein_jax.weights.entries import Checkpoint, Entry, FileBytes

DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2, "C64": np.complex64,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}
METADATA = "__metadata__"
LONGEST_HEADER = 100_000_000  # bytes: the format's own limit
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}


def looks_like_safetensors(head: bytes) -> bool:
    """True where the first bytes of a file are the length of a header (64 bits) and the brace it begins with."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= LONGEST_HEADER


def read_safetensors(path: Path) -> Checkpoint:
    """Opens the file; a header that does not describe exactly the bytes that follow it is a UserError."""
    path = Path(path)
    file = FileBytes(path)
    try:
        header, start = _header(file)
        metadata = header.pop(METADATA, None) or {}
        if not isinstance(metadata, dict):
            raise ValueError(f"its {METADATA} is a {type(metadata).__name__} and not an object of texts")
        ranges = sorted(_range(name, spec) for name, spec in header.items())
        end = 0
        for first, last, name in ranges:
            if first != end:
                raise ValueError(f"the bytes of {name!r} overlap others or leave a gap")
            end = last
        if start + end != file.size:
            raise ValueError(f"it should be {start + end} bytes long and is {file.size}")
        entries = {name: _entry(file, start, spec) for name, spec in header.items()}
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is a damaged .safetensors file ({error}); download or copy it again.") from None
    return Checkpoint(path, "safetensors file", entries, metadata={str(k): str(v) for k, v in metadata.items()})


def _unique(pairs):
    """JSON object without repeated names."""
    out = dict(pairs)
    if len(out) != len(pairs):
        seen: set[str] = set()
        raise ValueError(f"the name {next(name for name, _ in pairs if name in seen or seen.add(name))!r} appears twice")
    return out


def _header(file: FileBytes) -> tuple[dict, int]:
    """(header, offset of the data)."""
    length = int.from_bytes(file.read(0, 8).tobytes(), "little")
    if 8 + length > file.size:
        raise ValueError("it ends inside its header")
    header = json.loads(file.read(8, length).tobytes().decode("utf-8"), object_pairs_hook=_unique)
    if not isinstance(header, dict):
        raise ValueError("its header is not a dictionary")
    return header, 8 + length


def _range(name: str, spec: dict) -> tuple[int, int, str]:
    """(first byte, last byte, name), checked against shape and dtype."""
    first, last = spec["data_offsets"]
    if spec["dtype"] not in DTYPES:
        raise ValueError(f"{name!r} has the unknown dtype {spec['dtype']!r}")
    shape = spec["shape"]
    if not all(type(n) is int and n >= 0 for n in [*shape, first, last]):
        raise ValueError(f"{name!r} has the shape {shape}")
    wanted = int(np.prod(shape, dtype=object)) * np.dtype(DTYPES[spec["dtype"]]).itemsize
    if last - first != wanted:
        raise ValueError(f"{name!r} of shape {shape} needs {wanted} bytes and has {last - first}")
    return first, last, name


def _entry(file: FileBytes, start: int, spec: dict) -> Entry:
    """One array of the file."""
    dtype, shape, first = np.dtype(DTYPES[spec["dtype"]]), tuple(spec["shape"]), start + spec["data_offsets"][0]
    return Entry(shape, dtype, lambda: file.array(first, shape, dtype))


def write_safetensors(
    path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None, *, hashes: bool = False
) -> None:
    """Writes the arrays one after the other (the largest dtypes first, as the format's own library does), then renames.

    An interrupted write leaves the old file as it was. `arrays` may be lazy: each is read once, when its turn comes. hashes: also keep
    every array's SHA-256 (and the metadata's) in the metadata entry "sha256", for `check_hashes`.
    """
    specs = array_specs(arrays)
    order = sorted(specs, key=lambda name: (-specs[name][1].itemsize, name))
    for name in order:
        if specs[name][1] not in NAMES:
            raise UserError(f"{name!r} has dtype {specs[name][1]}, which .safetensors cannot hold.")
    metadata = dict(metadata or {})
    found = {name: "0" * 64 for name in order} if hashes else {}
    with atomic(path) as file:
        file.write(_header_bytes(specs, order, metadata, found))
        for name in order:
            array = np.asarray(arrays[name])
            if hashes:
                found[name] = digest(array)
            file.write(little_endian_bytes(array))
        if hashes:
            file.seek(0)
            file.write(_header_bytes(specs, order, metadata, found))


def _header_bytes(specs: Mapping, order: list[str], metadata: dict[str, str], hashes: dict[str, str]) -> bytes:
    """Length and JSON header; equally long whatever the hashes are, so that they can be filled in after the data."""
    header: dict = {}
    if hashes:
        metadata = {**metadata, "sha256": json.dumps({**hashes, METADATA: metadata_digest(metadata)}, sort_keys=True)}
    if metadata:
        header[METADATA] = metadata
    offset = 0
    for name in order:
        shape, dtype = specs[name]
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [offset, offset + nbytes]}
        offset += nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def check_hashes(checkpoint: Checkpoint, arrays: Mapping[str, np.ndarray] | None = None) -> bool:
    """Compares a file with the hashes that were written into it; UserError where it was changed, False where it has none.

    arrays: what was read of it, compared too; without them the list of names and the metadata are.
    """
    if "sha256" not in checkpoint.metadata:
        return False
    refuse = f"{checkpoint.path} was changed or damaged after it was written; it is refused"
    try:
        recorded = json.loads(checkpoint.metadata["sha256"])
        own = recorded.pop(METADATA, None)
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise UserError(f"{refuse} (its list of hashes cannot be read).") from None
    if own != metadata_digest({k: v for k, v in checkpoint.metadata.items() if k != "sha256"}):
        raise UserError(f"{refuse} (its metadata).")
    if set(recorded) != set(checkpoint):
        raise UserError(f"{refuse} (it does not hold the arrays that it lists).")
    for name in arrays or ():
        if digest(arrays[name]) != recorded[name]:
            raise UserError(f"{refuse} (the array {name!r}).")
    return True


def metadata_digest(metadata: Mapping[str, str]) -> str:
    """SHA-256 of the metadata's entries."""
    return hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode()).hexdigest()


def array_specs(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """{name: (shape, dtype)} without reading the arrays of a Checkpoint."""
    if isinstance(arrays, Checkpoint):
        return {name: (entry.shape, entry.dtype) for name, entry in arrays.entries.items()}
    return {name: (tuple(array.shape), np.dtype(array.dtype)) for name, array in arrays.items()}


def little_endian_bytes(array) -> memoryview:
    """The bytes of the array in row-major, little-endian order (no copy where it is stored so)."""
    array = np.asarray(array)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def digest(array) -> str:
    """SHA-256 of an array's bytes, its shape and its dtype."""
    array = np.asarray(array)
    sha = hashlib.sha256(f"{array.dtype.name}{tuple(array.shape)}".encode())
    sha.update(little_endian_bytes(array))
    return sha.hexdigest()


@contextmanager
def atomic(path: str | Path):
    """`with atomic(path) as file`: the file appears whole under its name when the block ends, or not at all; UserError where it cannot."""
    path = local_path(path)
    try:
        with atomic_file.atomic(path) as file:
            yield file
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); free some space or choose another place. Nothing was "
                        "changed there.") from None

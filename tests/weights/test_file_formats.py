"""The other readers and writers: safetensors, npz, ONNX, and files that are none of them."""

import json

import ml_dtypes
import numpy as np
import pytest

from rein_jax.errors import UserError
from rein_jax.weights.checkpoint import read_checkpoint
from rein_jax.weights.onnx_file import read_onnx
from rein_jax.weights.safetensors_file import check_hashes, write_safetensors
from rein_jax.weights.torch_write import write_torch

RNG = np.random.default_rng(0)
ARRAYS = {
    "f32": RNG.standard_normal((3, 4)).astype(np.float32), "f64": RNG.standard_normal(2), "f16": np.ones(3, np.float16),
    "bf16": RNG.standard_normal((2, 3)).astype(ml_dtypes.bfloat16), "i64": np.arange(5), "bool": np.array([True, False]),
    "scalar": np.float32(2.5).reshape(()), "empty": np.zeros((0, 3), np.float32), "transposed": RNG.standard_normal((4, 5)).T,
}


def assert_same(got, want):
    assert set(got) == set(want)
    for name, array in want.items():
        assert got[name].dtype == array.dtype and got[name].shape == array.shape, name
        np.testing.assert_array_equal(np.asarray(got[name]), array)


@pytest.mark.parametrize("hashes", [False, True])
def test_safetensors_round_trip(tmp_path, hashes):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, ARRAYS, {"note": "x"}, hashes=hashes)
    file = read_checkpoint(path)
    assert_same(file, ARRAYS)
    assert file.metadata["note"] == "x" and check_hashes(file, file) == hashes
    assert list(tmp_path.iterdir()) == [path]


def test_safetensors_library_reads_ours_and_we_read_its(tmp_path):
    from safetensors.numpy import load_file, save_file

    plain = {name: np.ascontiguousarray(array) for name, array in ARRAYS.items() if name != "bf16"}
    write_safetensors(tmp_path / "ours.safetensors", plain, hashes=True)
    assert_same(load_file(tmp_path / "ours.safetensors"), plain)
    save_file(plain, tmp_path / "theirs.safetensors", {"a": "b"})
    file = read_checkpoint(tmp_path / "theirs.safetensors")
    assert_same(file, plain)
    assert file.metadata == {"a": "b"}


def test_pth_round_trip(tmp_path):
    for wrapper in ("", "state_dict"):
        write_torch(tmp_path / "a.pth", ARRAYS, wrapper)
        file = read_checkpoint(tmp_path / "a.pth")
        assert_same(file, ARRAYS)
        assert file.wrapper == wrapper


@pytest.mark.parity
def test_torch_reads_our_pth(tmp_path):
    torch = pytest.importorskip("torch")
    write_torch(tmp_path / "a.pth", ARRAYS, "a.state_dict")
    for mapped in (False, True):
        found = torch.load(tmp_path / "a.pth", weights_only=True, mmap=mapped)["a"]["state_dict"]
        for name, array in ARRAYS.items():
            value = found[name].float() if name == "bf16" else found[name]
            np.testing.assert_array_equal(value.numpy(), array.astype(value.numpy().dtype))
            assert tuple(value.shape) == array.shape


def test_npz(tmp_path):
    plain = {name: array for name, array in ARRAYS.items() if name != "bf16"}
    np.savez(tmp_path / "a.npz", **plain)
    assert_same(read_checkpoint(tmp_path / "a.npz"), plain)
    np.savez(tmp_path / "b.npz", a=np.array([{}], dtype=object))
    with pytest.raises(UserError, match="Python objects"):
        read_checkpoint(tmp_path / "b.npz")


@pytest.mark.parametrize(("content", "message"), [
    (b"", "is empty"),
    (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
    (b"\n\n<html>", "web page"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n", "git-lfs pointer"),
    (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "damaged pickle"),
    (b"PK\x03\x04 and then nothing", "damaged or truncated zip"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b'{"weight_map": {}}', "JSON"),
    (b"\x00\x01\x02 something else", "not a checkpoint"),
])
def test_files_that_are_no_checkpoints(tmp_path, content, message):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)


def test_directory_and_missing_file(tmp_path):
    with pytest.raises(UserError, match="is a directory"):
        read_checkpoint(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        read_checkpoint(tmp_path / "nothing.pth")


def header(spec: dict, data: bytes = b"\0" * 8) -> bytes:
    text = json.dumps(spec).encode() if isinstance(spec, dict) else spec
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(("content", "message"), [
    (header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 7), "bytes long"),
    (header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 9), "bytes long"),
    (header({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}), "needs 12 bytes"),
    (header({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}), "shape"),
    (header({"a": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}}), "dtype"),
    (header(dict.fromkeys("ab", {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]})), "overlap"),
    (header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}'), "twice"),
    (header({"a": 3}), "damaged"),
    ((200).to_bytes(8, "little") + b'{"a', "ends inside its header"),
])
def test_damaged_safetensors(tmp_path, content, message):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_checkpoint(tmp_path / "a.safetensors")


def test_changed_files_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, ARRAYS, {"classes": "road"}, hashes=True)
    whole = path.read_bytes()
    for place in (len(whole) - 1, whole.index(b"road")):
        data = bytearray(whole)
        data[place] ^= 1
        path.write_bytes(data)
        changed = read_checkpoint(path)
        with pytest.raises(UserError, match="changed or damaged"):
            check_hashes(changed, changed)


def test_writing_fails_whole(tmp_path):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"a": np.ones(2)})
    with pytest.raises(UserError, match="dtype"):
        write_safetensors(path, {"a": np.array(["x"])})
    with pytest.raises(UserError, match="dtype"):
        write_torch(tmp_path / "a.pth", {"a": np.ones(2, np.uint16)})
    with pytest.raises(UserError, match="cannot be written"):
        write_safetensors(tmp_path / "a.safetensors" / "b", {"a": np.ones(2)})
    assert_same(read_checkpoint(path), {"a": np.ones(2)})
    assert list(tmp_path.iterdir()) == [path]


# A protobuf message by hand: ONNX is not needed to test its reader.
def field(number: int, data) -> bytes:
    if isinstance(data, int):
        return varint(number << 3) + varint(data)
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def onnx(tensors: dict[str, bytes], nodes: list[bytes] = ()) -> bytes:
    weights = (field(5, data + field(8, name.encode())) for name, data in tensors.items())
    graph = b"".join(field(1, node) for node in nodes) + b"".join(weights)
    return field(1, 8) + field(7, graph)


def raw(array: np.ndarray, kind: int) -> bytes:
    return field(1, b"".join(varint(n) for n in array.shape)) + field(2, kind) + field(9, array.tobytes())


def test_onnx(tmp_path):
    w, b = RNG.standard_normal((4, 3)).astype(np.float32), RNG.standard_normal(3).astype(np.float32)
    values = field(1, 3) + field(2, 1) + field(4, b.tobytes())
    count = field(1, 1) + field(2, 7) + field(7, varint(5))
    node = field(1, b"x") + field(1, b"onnx::MatMul_7") + field(2, b"y") + field(3, b"/block/fc1/MatMul") + field(4, b"MatMul")
    path = tmp_path / "a.onnx"
    path.write_bytes(onnx({"onnx::MatMul_7": raw(w, 1), "block.fc1.bias": values, "count": count}, [node]))
    file = read_checkpoint(path)
    assert_same(file, {"block.fc1.weight": w.T, "block.fc1.bias": b, "count": np.array([5])})
    whole = path.read_bytes()
    for size in range(0, len(whole), 3):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError):
            read_checkpoint(path)
    for tensors in ({"w": raw(w, 99)}, {"w": field(1, 5) + raw(w, 1)}, {"w": field(14, 1) + raw(w, 1)}):
        path.write_bytes(onnx(tensors))
        with pytest.raises(UserError, match="damaged"):
            read_onnx(path)

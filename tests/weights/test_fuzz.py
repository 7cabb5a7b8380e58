"""Damaged files of every kind end in one UserError or in arrays inside the file: never a crash, a hang or another exception.

The examples that hypothesis or reading found are kept as `@example` or in FOUND.
"""

import io
import zipfile

import numpy as np
import pytest
from crafted import DATA, archive, dictionary, legacy, number, numbers, pickled, tensor, text
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rein_jax.errors import UserError
from rein_jax.weights.checkpoint import read_checkpoint
from rein_jax.weights.safetensors_file import write_safetensors

QUICK = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
GIB = 1 << 30


def try_reading(path) -> bool:
    """Opens the file and reads every array; True when it was accepted."""
    try:
        file = read_checkpoint(path)
        for name in file:
            assert file.entries[name].dtype.itemsize * int(np.prod(file.entries[name].shape, dtype=object)) < GIB
            np.asarray(file[name]).sum()
    except UserError as error:
        assert "\n" not in str(error) and str(path) in str(error)
        return False
    return True


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One good file of each kind, as bytes."""
    folder = tmp_path_factory.mktemp("fuzz")
    archive(folder / "a.pth", pickled(dictionary({"w": tensor(), "v": tensor(key="1", size=(3,), stride=(2,))})), {"0": DATA, "1": DATA})
    write_safetensors(folder / "a.safetensors", {"w": np.arange(6, dtype=np.float32), "v": np.ones((2, 2), np.int64)}, {"note": "x"})
    np.savez(folder / "a.npz", w=np.arange(6, dtype=np.float32), v=np.ones((2, 2)))
    pair = dictionary({"w": tensor(), "v": tensor(key="1", size=(3,), stride=(2,))})
    (folder / "a.old").write_bytes(legacy(pair, {"0": DATA, "1": DATA}))
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz", ".old"])
@QUICK
@given(places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4), cut=st.floats(0.3, 1))
def test_changed_bytes(whole, tmp_path, suffix, places, cut):
    data = bytearray(whole[suffix])
    for place, value in places:
        data[int(place * len(data))] = value
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data[:int(cut * len(data))] if cut < 0.9 else data)
    with_warnings_ignored(path)


@pytest.mark.parametrize(("suffix", "old", "new"), [
    (".pth", b"PK\x05\x06", b"PK\x05\x06\x01"),  # another disk
    (".npz", b"\x80\x01\xcf\0\0\0v.npy", b"\x80\x01\xcf\0\0\0\n.npy"),  # a line break in a name
    (".pth", b"\xb6\0\0\0 \x02\0\0", b"\xb6\0\0\0 \x03\0\0"),  # records begin before the file
])
def test_found_archives(whole, tmp_path, suffix, old, new):
    path = tmp_path / f"a{suffix}"
    assert old in whole[suffix]
    path.write_bytes(whole[suffix].replace(old, new))
    assert not with_warnings_ignored(path)


def with_warnings_ignored(path) -> bool:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile and numpy warn about some damages before we refuse them
        return try_reading(path)


OPCODES = st.sampled_from([
    b"N", b"}", b"]", b"(", b"t", b"u", b"s", b"R", b"b", b"Q", b"0", b"2", b"q\x01", b"h\x01", b"\x81", b"\x85", b"a", b"e", b"\x88",
    b"ccollections\nOrderedDict\n", b"ctorch\nFloatStorage\n", b"ctorch\nSize\n", b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch._utils\n_rebuild_parameter\n", b"ctorch._tensor\n_rebuild_from_type_v2\n", b"cargparse\nNamespace\n", b"ctorch\nbfloat16\n",
    text("w"), text("storage"), text("0"), text("__class__"), text("state_dict"), number(1), number(6), number(-1), number(1 << 50),
    numbers((2, 3)), numbers((3, 1)), tensor(), dictionary({"w": tensor()}), dictionary({"state": dictionary({})}),
])


@QUICK
@given(places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=3))
def test_changed_indices(whole, tmp_path, places):
    """An index of shards with changed bytes."""
    (tmp_path / "a-00001-of-00001.safetensors").write_bytes(whole[".safetensors"])
    data = bytearray(b'{"weight_map": {"w": "a-00001-of-00001.safetensors", "v": "a-00001-of-00001.safetensors"}}')
    for place, value in places:
        data[int(place * len(data))] = value
    (tmp_path / "a.safetensors.index.json").write_bytes(data)
    with_warnings_ignored(tmp_path / "a.safetensors.index.json")


@QUICK
@given(st.lists(OPCODES, min_size=1, max_size=14))
@example([b"ctorch\nFloatStorage\n", dictionary({"dtype": text("x")}), b"b"])  # state set on what the pickle was given
@example([b"ctorch._utils\n_rebuild_tensor_v2\n", b"(", b"N", dictionary({"__defaults__": numbers((1,))}), b"t", b"b"])
@example([b"}", text("w"), tensor(), b"(", b"N", dictionary({"storage": number(1)}), b"t", b"b", b"s"])
@example([b"cargparse\nNamespace\n", b")", b"R", dictionary({"state": number(3)}), b"b"])
@example([b"}", b"2", text("w"), b"2", b"s"])
def test_any_pickle(tmp_path, opcodes):
    with_warnings_ignored(archive(tmp_path / "a.pth", pickled(b"".join(opcodes))))


def test_pickles_do_not_change_the_reader(tmp_path):
    """What one file does to the callables it is given must not be seen by the next."""
    poison = b"ctorch._utils\n_rebuild_tensor_v2\n(N" + dictionary({"__defaults__": numbers((9, 9, 9, 9))}) + b"tb"
    assert not with_warnings_ignored(archive(tmp_path / "a.pth", pickled(poison)))
    assert with_warnings_ignored(archive(tmp_path / "b.pth", pickled(dictionary({"w": tensor()}))))


def nested(depth: int) -> bytes:
    return b"}" + b"".join(text("a") + b"}" for _ in range(depth)) + text("w") + tensor() + b"s" * (depth + 1)


def cycle() -> bytes:
    """A dictionary that contains itself."""
    return b"}q\x01" + text("a") + b"h\x01s" + text("w") + tensor() + b"s"


def wrapped_in_itself() -> bytes:
    """A wrapper whose "model" is itself."""
    return b"}q\x01" + text("model") + b"h\x01s" + text("x") + dictionary({"w": tensor()}) + b"s"


def shared(depth: int) -> bytes:
    """Each dictionary holds the one before twice: 2^depth paths."""
    out = dictionary({"w": tensor()}) + b"q\x00"
    for i in range(depth):
        out += b"0}" + text("a") + b"h" + bytes([i]) + b"s" + text("b") + b"h" + bytes([i]) + b"s" + b"q" + bytes([i + 1])
    return out


def doubled_tuple(depth: int) -> bytes:
    """A tensor whose size is a tuple of tuples with 2^depth leaves."""
    size = b"K\x01\x85q\x00"
    for i in range(depth):
        size += b"0h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1])
    return dictionary({"w": tensor().replace(numbers((2, 3)), size)})


def two_sets(depth: int) -> bytes:
    """Two sets of weights that differ only at the ends of their doubled tuples."""
    first, second = doubled_tuple(depth), doubled_tuple(depth).replace(b"K\x01\x85q\x00", b"K\x02\x85q\x00")
    return dictionary({"model": first, "net": second})


FOUND = {
    "deep": nested(20000), "cycle": cycle(), "wrapped in itself": wrapped_in_itself(), "doubled dictionaries": shared(60),
    "doubled tuple": doubled_tuple(60), "two sets of doubled tuples": two_sets(60),
    "memo": b"Nr\xff\xff\xff\x7f", "long": b"\x8b\xff\xff\xff\x7f", "frame": b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f",
    "bytes": b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", "extension": b"\x82\x01", "persistent name": b"P0\n", "stack": b"000000",
    "float as size": dictionary({"w": tensor().replace(numbers((2, 3)), b"(G?\xf0\0\0\0\0\0\0K\x03t")}),
    "boolean as offset": dictionary({"w": tensor().replace(number(0) + numbers((2, 3)), b"\x88" + numbers((2, 3)))}),
    "many axes": dictionary({"w": tensor(size=(1,) * 65, stride=(1,) * 65)}),
}


@pytest.mark.parametrize("name", FOUND)
def test_found_pickles(tmp_path, name):
    with_warnings_ignored(archive(tmp_path / "a.pth", pickled(FOUND[name])))


def test_npz_that_lies_about_its_size(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("w.npy", header.getvalue() + b"\0" * 64)
    with pytest.raises(UserError, match="more than the file holds"):
        read_checkpoint(tmp_path / "a.npz")


@QUICK
@given(st.binary(max_size=200))
def test_any_onnx(tmp_path, data):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"\x08\x08\x3a" + bytes([len(data) & 127]) + data)
    with_warnings_ignored(path)

"""The reader of PyTorch files: what it must read, and what it must refuse without running anything."""

import argparse
import pathlib
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from crafted import DATA, archive, dictionary, pickled, tensor, text

from rein_jax.errors import UserError
from rein_jax.weights.checkpoint import read_checkpoint


def one(tmp_path, value: bytes, **options):
    return archive(tmp_path / "a.pth", pickled(value), **options)


def test_reads_a_plain_archive(tmp_path):
    entries = {"w": tensor(), "t": tensor(size=(3, 2), stride=(1, 3)), "s": tensor(size=(), stride=())}
    file = read_checkpoint(one(tmp_path, dictionary(entries)))
    np.testing.assert_array_equal(file["w"], np.arange(6, dtype=np.float32).reshape(2, 3))
    np.testing.assert_array_equal(file["t"], np.arange(6, dtype=np.float32).reshape(2, 3).T)
    assert file["s"].shape == () and file.kind == "PyTorch file" and not file["w"].flags.writeable


@pytest.mark.parametrize(("entry", "message"), [
    (tensor(offset=1), "beyond its storage"),
    (tensor(size=(3, 3)), "beyond its storage"),
    (tensor(stride=(-3, 1)), "impossible"),
    (tensor(offset=-1), "impossible"),
    (tensor(size=(2, -3)), "impossible"),
    (tensor(size=(2, 3), stride=(1, 1)), "overlaps itself"),
    (tensor(size=(1 << 40, 1 << 40), stride=(0, 0)), "overlaps itself"),
    (tensor(size=(2,), stride=(3, 1)), "impossible"),
    (tensor(key="7"), "missing storage"),
    (tensor(numel=60), "needs 240 bytes"),
    (tensor(key="../../etc/passwd"), "missing storage"),
])
def test_refuses_impossible_tensors(tmp_path, entry, message):
    with pytest.raises(UserError, match=message):
        read_checkpoint(one(tmp_path, dictionary({"w": entry})))


class Malicious:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "subprocess.call", "operator.attrgetter", "runpy.run_path"])
def test_malicious_pickle_runs_nothing_and_is_named(tmp_path, protocol, name):
    module, _, function = name.partition(".")
    mark = tmp_path / "ran"
    target = getattr(__import__(module), function)
    data = pickle.dumps({"w": Malicious(target, f"touch {mark}")}, protocol)
    with pytest.raises(UserError, match="would call") as caught:
        read_checkpoint(archive(tmp_path / "a.pth", data))
    assert function in str(caught.value) and not mark.exists()


def test_unknown_classes_are_inert(tmp_path):
    """Whatever a training script left beside the weights neither runs nor stops the reader."""
    raw = pickle.dumps({"args": argparse.Namespace(lr=1.0, out=pathlib.PurePosixPath("x")), "n": np.float64(3), "a": np.arange(3),
                        "o": OrderedDict(x=1)}, 2)
    body = raw[2:-1]  # without protocol and stop
    data = b"\x80\x02" + b"}(" + text("meta") + body + text("model") + dictionary({"w": tensor()}) + b"u."
    file = read_checkpoint(archive(tmp_path / "a.pth", data))
    assert list(file) == ["w"] and file.wrapper == "model"


def test_bad_archives(tmp_path):
    good = one(tmp_path, dictionary({"w": tensor()}))
    whole = good.read_bytes()
    for size in (len(whole) // 2, len(whole) - 10, 60):
        good.write_bytes(whole[:size])
        with pytest.raises(UserError, match=str(good)):
            read_checkpoint(good)
    with pytest.raises(UserError, match="compressed"):
        read_checkpoint(one(tmp_path, dictionary({"w": tensor()}), compress=True))
    with pytest.raises(UserError, match="no tensors"):
        read_checkpoint(one(tmp_path, dictionary({"w": b"N"})))
    with pytest.raises(UserError, match="damaged pickle"):
        read_checkpoint(archive(tmp_path / "b.pth", b"\x80\x02garbage"))
    with pytest.raises(UserError, match="absurd"):
        read_checkpoint(archive(tmp_path / "b.pth", b"\x80\x02Nr\xff\xff\xff\x7f."))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "d.pth", "w") as file:
        for _ in range(2):
            file.writestr("archive/data.pkl", pickled(dictionary({"w": tensor()})))
    with pytest.raises(UserError, match="twice"):
        read_checkpoint(tmp_path / "d.pth")
    with zipfile.ZipFile(tmp_path / "z.pth", "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(UserError, match="not one of PyTorch's"):
        read_checkpoint(tmp_path / "z.pth")


def test_records_that_overlap(tmp_path):
    """The central directory lets one record begin inside another."""
    path = archive(tmp_path / "a.pth", pickled(dictionary({"w": tensor(), "v": tensor(key="1")})), {"0": DATA, "1": DATA})
    data = bytearray(path.read_bytes())
    first, second = (data.rindex(name) for name in (b"archive/data/0", b"archive/data/1"))
    data[second - 4:second] = data[first - 4:first]
    path.write_bytes(data)
    with pytest.raises(UserError, match="overlap|damaged"):
        read_checkpoint(path)


def test_big_endian_and_nested_duplicate_names(tmp_path):
    path = one(tmp_path, dictionary({"w": tensor()}))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("archive/byteorder", "big")
    with pytest.raises(UserError, match="big-endian"):
        read_checkpoint(path)
    nested = dictionary({"a.b": tensor(), "a": dictionary({"b": tensor()})})
    with pytest.raises(UserError, match="twice"):
        read_checkpoint(one(tmp_path, nested))


@pytest.mark.parity
def test_values_equal_torch(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {
        "plain": torch.randn(3, 4), "transposed": torch.randn(5, 6).T, "half": torch.randn(3).half(), "bf16": torch.randn(2, 3).bfloat16(),
        "int": torch.arange(5), "bool": torch.tensor([True, False]), "scalar": torch.tensor(3.0), "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(2, 2)), "view": torch.randn(10)[3:7], "strided": torch.randn(4, 6)[:, ::2],
        "complex": torch.randn(2, dtype=torch.complex64), "uint8": torch.arange(4, dtype=torch.uint8),
    }
    tensors["shared"] = tensors["plain"][1:]
    for wrapper in (None, "state_dict", "model", "teacher"):
        beside = {"optimizer": {"state": {0: torch.ones(2)}}, "epoch": 3}
        torch.save({wrapper: tensors, **beside} if wrapper else tensors, tmp_path / "t.pth")
        file = read_checkpoint(tmp_path / "t.pth")
        assert list(file) == list(tensors) and file.wrapper == (wrapper or "")
        for name, value in tensors.items():
            value = value.detach()
            want = value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()
            got = np.asarray(file[name])
            assert got.shape == want.shape and got.dtype.name == str(value.dtype).removeprefix("torch.")
            np.testing.assert_array_equal(got.astype(want.dtype), want)


@pytest.mark.parity
def test_torchscript_and_whole_modules(tmp_path):
    torch = pytest.importorskip("torch")

    class Visual(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.visual = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2, bias=False), torch.nn.LayerNorm(4))
            self.class_embedding = torch.nn.Parameter(torch.randn(4))

        def forward(self, x):
            return self.visual[0](x).sum() + self.class_embedding.sum()

    model = Visual().half()
    with pytest.warns(DeprecationWarning):
        torch.jit.save(torch.jit.script(model), tmp_path / "clip.pt")
    file = read_checkpoint(tmp_path / "clip.pt")
    assert file.kind == "TorchScript archive" and set(file) == set(model.state_dict())
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(file[name], value.numpy())
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)), tmp_path / "whole.pth")
    assert {"0.weight", "1.running_mean"} <= set(read_checkpoint(tmp_path / "whole.pth"))

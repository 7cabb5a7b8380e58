"""Which kind a file is, whatever its name and its first bytes look like; shards and folders; sets of weights side by side."""

import json
import os
import pickle
import struct
import sys
import types

import jax
import numpy as np
import pytest
from crafted import DATA, archive, dictionary, legacy, pickled, tensor, text

from rein_jax.cli import show
from rein_jax.cli.convert import main as convert_main
from rein_jax.errors import UserError
from rein_jax.weights.checkpoint import read_checkpoint
from rein_jax.weights.load import load_scheme
from rein_jax.weights.prefix import plain, plain_names, prefixes
from rein_jax.weights.safetensors_file import _unique as unique
from rein_jax.weights.safetensors_file import looks_like_safetensors, write_safetensors
from tests.weights.test_load import RULES, SHAPES, SKIP, file

W = np.arange(6, dtype=np.float32).reshape(2, 3)


def with_header_of(length: int) -> bytes:
    """A valid .safetensors of one array whose header has that many bytes."""
    header = {"__metadata__": {"note": ""}, "w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
    header["__metadata__"]["note"] = "x" * (length - len(json.dumps(header)))
    return struct.pack("<Q", length) + json.dumps(header).encode() + W.tobytes()


@pytest.mark.parametrize("start", [b"PK", b"\x80\x02", b"\x1f\x8b\x08", b"\x08\x07", b"{\n", b"[1", b"<h", b"\x89H", b"BM", b"II*"])
def test_safetensors_are_told_by_their_structure(tmp_path, start):
    """The length of the header may begin with the first bytes of any other format."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(with_header_of(int.from_bytes(start.ljust(2, b"\1"), "little")))
    assert path.read_bytes().startswith(start)
    np.testing.assert_array_equal(read_checkpoint(path)["w"], W)


def test_whole_signatures_decide():
    assert looks_like_safetensors(b"PK\x03\x04\0\0\0\0{")  # a header of 67 MB
    assert not looks_like_safetensors(b"PK\x03\x04\x14\0\0\0{\0")  # a zip file: version 2.0
    assert not looks_like_safetensors(b"\xff\xff\xff\xff\xff\0\0\0{") and not looks_like_safetensors(b"PK\x03\x04\0\0\0\0[")


@pytest.mark.parametrize(("content", "message"), [
    (b"PK and then something else", "not a checkpoint"),
    (b"\x1f\x8b\x08" + b"\0" * 30, "compressed"),
    (b"x" * 257 + b"ustar\0" + b"\0" * 250, "tar archive"),
    (b"\x80\x04\x95" + b"\0" * 20, "bare pickle"),
])
def test_what_is_none_of_them(tmp_path, content, message):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_checkpoint(tmp_path / "a.pth")


def test_names_do_not_decide(tmp_path):
    """Each kind under the ending of another one."""
    from tests.weights.test_file_formats import onnx, raw

    (tmp_path / "a.bin").write_bytes(onnx({"w": raw(W, 1)}))
    archive(tmp_path / "a.safetensors", pickled(dictionary({"w": tensor()})))
    write_safetensors(tmp_path / "a.pth", {"w": W})
    np.savez(tmp_path / "a.npz", w=W)
    os.rename(tmp_path / "a.npz", tmp_path / "a.onnx")
    for name in ("a.bin", "a.safetensors", "a.pth", "a.onnx"):
        np.testing.assert_array_equal(read_checkpoint(tmp_path / name)["w"], W)


@pytest.mark.parametrize("dimensions", [[1] * 71, [0, 1 << 62], [0, 10**20]])
def test_arrays_that_cannot_be(tmp_path, dimensions):
    spec = json.dumps({"w": {"dtype": "F32", "shape": dimensions, "data_offsets": [0, 0 if 0 in dimensions else 4]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(spec)) + spec + (b"" if 0 in dimensions else b"\0" * 4))
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(tmp_path / "a.safetensors")


@pytest.mark.parametrize("metadata", [[1], "text", 3, [["a", "b"]]])
def test_metadata_that_are_no_object(tmp_path, metadata, capsys):
    from rein_jax.cli.main import main

    spec = json.dumps({"__metadata__": metadata, "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(spec)) + spec + b"\0" * 4)
    assert main(["show", str(tmp_path / "a.safetensors")]) == 2
    assert "__metadata__" in capsys.readouterr().err


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="pipe"):
        read_checkpoint(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="pipe"):
        read_checkpoint("/dev/null")


def test_files_that_change_while_they_are_open(tmp_path):
    """What was read stays; what is gone is an error, and the process lives."""
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"v": np.ones(1000, np.float32), "w": np.full(1000, 2, np.float32)})
    found = read_checkpoint(path)
    first = found["v"]
    with path.open("r+b") as file_:
        file_.seek(-8000, 2)
        file_.write(b"\0" * 8000)
    np.testing.assert_array_equal(first, 1)
    os.truncate(path, 200)
    with pytest.raises(UserError, match="truncated"):
        found["w"]


def test_a_file_server_that_fails(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"w": W})
    found = read_checkpoint(path)
    entry = found.entries["w"].read
    source = next(cell.cell_contents for cell in entry.__closure__ if hasattr(cell.cell_contents, "_file"))

    class Failing:
        def seek(self, *_):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(source, "_file", Failing())
    with pytest.raises(UserError, match="cannot be read .Input/output error"):
        found["w"]


# PyTorch's format from before 1.6


def test_files_from_before_1_6(tmp_path):
    path = tmp_path / "old.pth"
    path.write_bytes(legacy(dictionary({"w": tensor(), "t": tensor(size=(3, 2), stride=(1, 3))}), {"0": DATA}))
    found = read_checkpoint(path)
    np.testing.assert_array_equal(found["w"], W)
    np.testing.assert_array_equal(found["t"], W.T)
    whole = path.read_bytes()
    for size in (20, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="truncated|damaged"):
            read_checkpoint(path)["w"]
    path.write_bytes(legacy(dictionary({"w": tensor()}), {"0": DATA}, protocol=7))
    with pytest.raises(UserError, match="protocol 7"):
        read_checkpoint(path)
    path.write_bytes(legacy(dictionary({"w": tensor()}), {"0": DATA}, little=False))
    with pytest.raises(UserError, match="big-endian"):
        read_checkpoint(path)
    path.write_bytes(legacy(dictionary({"w": tensor()}), {"1": DATA}))
    with pytest.raises(UserError, match="list of its storages"):
        read_checkpoint(path)


def test_pickles_from_before_1_6_run_nothing(tmp_path):
    mark = tmp_path / "ran"
    (tmp_path / "old.pth").write_bytes(legacy(b"cos\nsystem\n(" + text(f"touch {mark}") + b"tR", {"0": DATA}))
    with pytest.raises(UserError, match="would call os.system"):
        read_checkpoint(tmp_path / "old.pth")
    assert not mark.exists()


@pytest.mark.parity
def test_torch_writes_the_old_format(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {"w": torch.randn(3, 4), "t": torch.randn(5, 6).T, "half": torch.randn(3).half(), "view": torch.randn(10)[3:7],
               "bool": torch.tensor([True, False]), "scalar": torch.tensor(3.0), "empty": torch.zeros(0, 3)}
    tensors["shared"] = tensors["w"][1:]
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    found = read_checkpoint(tmp_path / "old.pth")
    assert found.wrapper == "state_dict" and list(found) == list(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(found[name], value.numpy())
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 3)), tmp_path / "module.pth", _use_new_zipfile_serialization=False)
    assert set(read_checkpoint(tmp_path / "module.pth")) == {"0.weight", "0.bias"}


# mmengine


@pytest.fixture
def hub(monkeypatch):
    """mmengine's message hub as its checkpoints hold it: buffers with NumPy arrays and with their class's own methods."""
    buffer = types.ModuleType("mmengine.logging.history_buffer")

    class HistoryBuffer:
        def __init__(self):
            self._max_length, self._log_history, self._count_history = 1000000, np.arange(3.0), np.ones(3)
            self._statistics_methods = {"min": HistoryBuffer.min, "mean": HistoryBuffer.mean}

        def min(self):
            pass

        def mean(self):
            pass

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = buffer.__name__, "HistoryBuffer"
    for name in ("min", "mean"):
        getattr(HistoryBuffer, name).__qualname__ = f"HistoryBuffer.{name}"
        getattr(HistoryBuffer, name).__module__ = buffer.__name__
    buffer.HistoryBuffer = HistoryBuffer
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, buffer.__name__, buffer)
    return pickle.dumps({"log_scalars": {"train/loss": HistoryBuffer()}, "runtime_info": {"iter": 20}, "resumed_keys": {"iter": True}}, 2)


def inside(data: bytes) -> bytes:
    """A pickle of protocol 2 as a part of another one, whose memo it does not share: without its first and last opcode."""
    return data[2:-1]


def test_mmengine_checkpoints_with_a_message_hub(tmp_path, hub):
    assert b"getattr" in hub
    meta = dictionary({"mmengine_version": text("0.10.7")})
    top = {"meta": meta, "state_dict": dictionary({"backbone.w": tensor()}), "message_hub": inside(hub)}
    found = read_checkpoint(archive(tmp_path / "iter_20.pth", pickled(dictionary(top))))
    assert found.wrapper == "state_dict" and list(found) == ["backbone.w"]
    np.testing.assert_array_equal(found["backbone.w"], W)


def test_mmengine_keeps_the_average_in_state_dict(tmp_path):
    meta = dictionary({"mmengine_version": text("0.10.7")})
    top = {"meta": meta, "state_dict": dictionary({"w": tensor()}), "ema_state_dict": dictionary({"module.w": tensor(key="1")})}
    found = read_checkpoint(archive(tmp_path / "a.pth", pickled(dictionary(top)), {"0": DATA, "1": bytes(24)}))
    assert found.wrapper == "state_dict" and found["w"].any()
    del top["meta"]  # another tool's: the average is what is called so
    found = read_checkpoint(archive(tmp_path / "b.pth", pickled(dictionary(top)), {"0": DATA, "1": bytes(24)}))
    assert found.wrapper == "ema_state_dict" and found.beside == ("state_dict",)


GETATTR = b"c__builtin__\ngetattr\n"


@pytest.mark.parametrize("opcodes", [
    GETATTR + b"(" + text("text") + text("format") + b"tR",
    GETATTR + b"(ccollections\nOrderedDict\n" + text("fromkeys") + b"tR",
    GETATTR + b"(cmmengine\nBuffer\n" + text("__class__") + b"tR",
    GETATTR + b"(c__builtin__\n__import__\n" + text("x") + b"tR",
    GETATTR + b"(cos\nsystem\n" + text("x") + b"tR",
    b"cos\ngetattr\n",
])
def test_getattr_of_anything_real_is_refused(tmp_path, opcodes):
    data = pickled(b"}(" + text("w") + tensor() + text("x") + opcodes + b"u")
    with pytest.raises(UserError, match="would call"):
        read_checkpoint(archive(tmp_path / "a.pth", data))


def test_states_of_random_generators_are_read_past(tmp_path):
    state = pickle.dumps(np.random.default_rng(0), 2)
    data = pickled(dictionary({"rng": inside(state), "model": dictionary({"w": tensor()})}))
    assert list(read_checkpoint(archive(tmp_path / "a.pth", data))) == ["w"]


# Chunks and shells


def test_blocks_in_fsdp_chunks_are_counted_through():
    names = plain_names(["cls_token", "blocks.0.0.w", "blocks.0.1.w", "blocks.1.2.w", "blocks.1.3.w"])  # DINOv2: numbers go on
    assert [names[n] for n in names] == ["cls_token", "blocks.0.w", "blocks.1.w", "blocks.2.w", "blocks.3.w"]
    names = plain_names(["a.blocks.0.0.w", "a.blocks.0.1.w", "a.blocks.1.0.w", "a.blocks.1.1.w"])  # begin anew in each chunk
    assert list(names.values()) == ["a.blocks.0.w", "a.blocks.1.w", "a.blocks.2.w", "a.blocks.3.w"]
    mixed = ["blocks.0.w", "blocks.0.1.w"]
    assert list(plain_names(mixed).values()) == mixed


def test_names_without_end_take_no_time():
    """A hundred thousand names, each with a front of its own, and one name twice among as many: no step compares all with all."""
    names = [f"a{i}.blocks.0.0.w" for i in range(100_000)]
    assert len(plain_names(names)) == len(names)
    header = ",".join(f'"{name}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for name in [*names, names[-1]])
    with pytest.raises(ValueError, match="'a99999.blocks.0.0.w' appears twice"):
        json.loads("{" + header + "}", object_pairs_hook=unique)
    assert len(prefixes([f"a{i}.cls_token" for i in range(1000)], RULES)) == 101


def test_shells_of_training_tools_are_taken_off():
    names = ["_orig_mod.blocks.0._orig_mod.w", "module.blocks.1._fsdp_wrapped_module._checkpoint_wrapped_module.w"]
    assert list(plain_names(names).values()) == ["blocks.0.w", "module.blocks.1.w"]
    assert list(plain_names(["a", "_orig_mod.a"]).values()) == ["a", "_orig_mod.a"]  # they would fall together


def load(source):
    return load_scheme(SHAPES, plain(source), {"own": (RULES, SKIP)})


def under(prefix: str, arrays: dict) -> dict:
    return {prefix + name: array for name, array in arrays.items()}


def test_chunks_and_shells_load(tmp_path):
    arrays = file()
    chunked = {name.replace("blocks.", f"blocks.{name.split('.')[1]}._fsdp_wrapped_module.") if "blocks" in name else name: array
               for name, array in arrays.items()}
    write_safetensors(tmp_path / "a.safetensors", under("teacher.backbone.", chunked))
    want, _ = load_scheme(SHAPES, plain(read(tmp_path, arrays)), {"own": (RULES, SKIP)})
    got, summary = load(read_checkpoint(tmp_path / "a.safetensors"))
    assert summary.prefix == "teacher.backbone."
    jax.tree.map(np.testing.assert_array_equal, want, got)


def read(folder, arrays):
    write_safetensors(folder / "plain.safetensors", arrays)
    return read_checkpoint(folder / "plain.safetensors")


# Several sets of weights in one file


@pytest.mark.parametrize(("plain_one", "average"), [
    ("student.backbone.", "teacher.backbone."), ("model.", "model_ema."), ("", "ema."), ("net.", "ema_net."), ("z.", "teacher."),
    ("module.", "averaged_model.module."), ("a.student.", "a.teacher.x."), ("model.", "modelEMA."), ("net.", "net_avg."),
])
def test_the_teacher_wins_and_it_is_said(tmp_path, capsys, plain_one, average):
    first, second = file(), file()
    found, summary = load(read(tmp_path, {**under(plain_one, first), **under(average, second)}))
    np.testing.assert_array_equal(found["backbone/cls_token"], np.asarray(second["cls_token"], np.float32))
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and repr(average.rstrip(".")) in said and str(tmp_path) in said and said.strip().endswith(".")
    assert summary.beside == (plain_one,)


def test_a_tie_is_refused_and_says_how_to_choose(tmp_path, capsys):
    arrays = {**under("encoder_q.", file()), **under("encoder_k.", file())}
    with pytest.raises(UserError, match="two sets of weights.*'encoder_k'.*'encoder_q'.*rein convert .* --part encoder_"):
        load(read(tmp_path, arrays))
    source, out = str(tmp_path / "plain.safetensors"), tmp_path / "q.safetensors"
    assert convert_main([source, str(out), "--part", "encoder_q"]) == 0
    found, summary = load(read_checkpoint(out))
    np.testing.assert_array_equal(found["backbone/cls_token"], np.asarray(arrays["encoder_q.cls_token"], np.float32))
    assert not summary.beside and capsys.readouterr().err == ""
    with pytest.raises(UserError, match="nothing under 'encoder_x'.*'encoder_k', 'encoder_q'"):
        read_checkpoint(source, "encoder_x")


def test_the_same_weights_twice_are_no_tie(tmp_path):
    arrays = file()
    load(read(tmp_path, {**under("model.encoder.", arrays), **under("encoder.", arrays)}))


def test_a_teacher_that_is_another_model_is_not_taken(tmp_path, capsys):
    """Distillation: the teacher is larger, so its weights do not fit."""
    large = {name: np.concatenate([array, array], axis=-1) for name, array in file().items()}
    small = file()
    found, _ = load(read(tmp_path, {**under("teacher.", large), **under("student.", small)}))
    np.testing.assert_array_equal(found["backbone/cls_token"], np.asarray(small["cls_token"], np.float32))
    assert "'student' are used, not 'teacher'" in capsys.readouterr().err


PAIR = {"0": DATA, "1": np.arange(6, 12, dtype=np.float32).tobytes()}


@pytest.mark.parametrize(("plain_one", "average"), [
    ("student", "teacher"), ("model", "model_ema"), ("state_dict", "state_dict_ema"), ("params", "params_ema"), ("model", "ema"),
    ("state_dict", "ema_state_dict"), ("module", "teacher"),
])
def test_nested_teachers_win(tmp_path, plain_one, average):
    for order in (1, -1):
        top = dict([(plain_one, dictionary({"module.w": tensor()})), (average, dictionary({"w": tensor(key="1")}))][::order])
        found = read_checkpoint(archive(tmp_path / "a.pth", pickled(dictionary(top)), PAIR))
        assert found.wrapper == average and found.beside == (plain_one,)
        np.testing.assert_array_equal(found["w"], W + 6)


def test_what_only_sounds_like_an_average_is_no_set_of_weights(tmp_path):
    """Nothing else in the file is like it; where something is, it is the average of that."""
    top = {"encoder": dictionary({"w": tensor()}), "ema_stats": dictionary({"mean": tensor(key="1")})}
    found = read_checkpoint(archive(tmp_path / "a.pth", pickled(dictionary(top)), PAIR))
    assert set(found) == {"encoder.w", "ema_stats.mean"} and not found.wrapper
    top = {"encoder": dictionary({"w": tensor()}), "ema_encoder": dictionary({"w": tensor(key="1")}), "head": dictionary({"v": tensor()})}
    found = read_checkpoint(archive(tmp_path / "b.pth", pickled(dictionary(top)), PAIR))
    assert found.wrapper == "ema_encoder" and found.beside == ("encoder",)
    many = dictionary({f"ema_{i}": dictionary({"w": tensor()}) for i in range(3000)})
    assert read_checkpoint(archive(tmp_path / "c.pth", pickled(many)))["w"].shape == (2, 3)


def test_nested_ties_are_refused(tmp_path):
    for pair in (("model", "net"), ("model_ema", "teacher")):
        top = dictionary({pair[0]: dictionary({"w": tensor()}), pair[1]: dictionary({"w": tensor(key="1")})})
        path = archive(tmp_path / "a.pth", pickled(top), PAIR)
        with pytest.raises(UserError, match=f"two sets.*'{pair[0]}'.*'{pair[1]}'.*--part {pair[1]}"):
            read_checkpoint(path)
        np.testing.assert_array_equal(read_checkpoint(path, pair[1])["w"], W + 6)
    same = dictionary({"model": dictionary({"w": tensor()}), "net": dictionary({"w": tensor()})})
    assert read_checkpoint(archive(tmp_path / "b.pth", pickled(same))).wrapper == "model"
    other = dictionary({"model": dictionary({"w": tensor()}), "net": dictionary({"v": tensor(key="1")})})
    assert read_checkpoint(archive(tmp_path / "c.pth", pickled(other), PAIR)).wrapper == "model"


# Shards


@pytest.fixture
def hub_folder(tmp_path):
    folder = tmp_path / "hub"
    folder.mkdir()
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name, arrays in zip(names, ({"w": W}, {"v": W.T.copy()}), strict=True):
        write_safetensors(folder / name, arrays)
    index = {"metadata": {"total_size": 48}, "weight_map": {"w": names[0], "v": names[1]}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text("{}")
    return folder


def test_shards_by_folder_and_by_index(hub_folder, capsys):
    for path in (hub_folder, hub_folder / "model.safetensors.index.json"):
        found = read_checkpoint(path)
        np.testing.assert_array_equal(found["w"], W)
        np.testing.assert_array_equal(found["v"], W.T)
        assert len(found.files) == 3
        assert show.main([str(path)]) == 0
        assert "2 shards" in capsys.readouterr().out
    assert list(read_checkpoint(hub_folder / "model-00001-of-00002.safetensors")) == ["w"]


def test_one_shard_alone_says_what_it_is(tmp_path):
    arrays = file()
    write_safetensors(tmp_path / "model-00001-of-00002.safetensors", {"cls_token": arrays["cls_token"]})
    with pytest.raises(UserError, match="only shard 1 of 2; give its folder"):
        load(read_checkpoint(tmp_path / "model-00001-of-00002.safetensors"))


@pytest.mark.parametrize(("change", "message"), [
    (lambda f: (f / "model-00002-of-00002.safetensors").unlink(), "names the shard model-00002-of-00002.safetensors, which is not"),
    (lambda f: (f / "model.safetensors.index.json").unlink(), "shards without their"),
    (lambda f: rewrite(f, {"w": "../x.safetensors"}), "not a file in the same folder"),
    (lambda f: rewrite(f, {"w": "model.safetensors.index.json"}), "not a file in the same folder"),
    (lambda f: rewrite(f, {"w": "model-00001-of-00002.safetensors", "x": "model-00001-of-00002.safetensors"}), "said to hold 'x'"),
    (lambda f: rewrite(f, {"w": 3}), "no weight_map"),
    (lambda f: (f / "model.safetensors.index.json").write_text("{" * 5), "not an index"),
    (lambda f: (f / "pytorch_model.bin.index.json").write_text("[]") and (f / "model.safetensors.index.json").unlink(), "no weight_map"),
])
def test_shards_that_do_not_fit(hub_folder, change, message):
    change(hub_folder)
    with pytest.raises(UserError, match=message):
        read_checkpoint(hub_folder)


def rewrite(folder, weight_map):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_folders_with_one_checkpoint_or_several(tmp_path):
    write_safetensors(tmp_path / "a.safetensors", {"w": W})
    assert list(read_checkpoint(tmp_path)) == ["w"]
    archive(tmp_path / "b.pth", pickled(dictionary({"w": tensor()})))
    with pytest.raises(UserError, match="several checkpoints .a.safetensors, b.pth."):
        read_checkpoint(tmp_path)
    write_safetensors(tmp_path / "model.safetensors", {"v": W})
    assert list(read_checkpoint(tmp_path)) == ["v"]


def test_a_folder_of_the_hugging_face_cache(hub_folder, tmp_path):
    """models--NAME with one snapshot, whose files are links."""
    snapshot = tmp_path / "models--facebook--dinov2-small/snapshots/0123abcd"
    snapshot.mkdir(parents=True)
    for path in hub_folder.iterdir():
        (snapshot / path.name).symlink_to(path)
    assert set(read_checkpoint(tmp_path / "models--facebook--dinov2-small")) == {"w", "v"}
    (snapshot.parent / "4567").mkdir()
    with pytest.raises(UserError, match="directory without a checkpoint"):
        read_checkpoint(tmp_path / "models--facebook--dinov2-small")


def test_a_folder_of_torch_distributed_is_named(tmp_path):
    (tmp_path / "__0_0.distcp").write_bytes(b"x")
    with pytest.raises(UserError, match="torch.distributed.*dcp_to_torch"):
        read_checkpoint(tmp_path)


def test_shards_are_converted_into_one_file(hub_folder, tmp_path):
    assert convert_main([str(hub_folder), str(tmp_path / "one.pth")]) == 0
    np.testing.assert_array_equal(read_checkpoint(tmp_path / "one.pth")["v"], W.T)

"""Model files that are not whole, were changed, or come from somebody else: refused by name, nothing is drawn for what is missing."""

import json

import cv2
import numpy as np
import pytest

from data_pipelines.labels import CITYSCAPES
from rein_jax import build, load
from rein_jax.cli.main import main
from rein_jax.errors import UserError
from rein_jax.weights.checkpoint import read_checkpoint
from rein_jax.weights.modelfile import FORMAT, missing_arrays, read_model, write_model
from rein_jax.weights.safetensors_file import write_safetensors
from tests.use.tiny import tiny_config, write_tiny

IMAGE = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(arrays, meta) of a whole model file with Rein."""
    return read_model(write_tiny(tmp_path_factory.mktemp("whole") / "model.safetensors", "rein"))


def rewritten(path, whole, drop=(), **meta):
    arrays = {name: array for name, array in whole[0].items() if not name.startswith(tuple(drop))} if drop else whole[0]
    write_model(path, arrays, {**whole[1], **meta})
    return path


@pytest.mark.parametrize("drop", ["head/", "head/classify/bias", "adapters/", "adapters/0/layers/tokens_a"])
def test_missing_arrays_are_named(tmp_path, whole, drop):
    names = [name for name in sorted(whole[0]) if name.startswith(drop)]
    assert names
    with pytest.raises(UserError, match=f"not whole: it lacks '{names[0]}'"):
        load(rewritten(tmp_path / "model.safetensors", whole, [drop]))


@pytest.mark.parametrize("command", [["predict", "{model}", "{images}"], ["evaluate", "{model}", "--domain", "streets:style=night"],
                                     ["export", "{model}", "--to", "stablehlo", "--size", "64"], ["predict", "{folder}", "{images}"]])
def test_commands_say_what_is_missing(tmp_path, whole, command, capsys):
    model = rewritten(tmp_path / "model.safetensors", whole, ["head/classify/bias"])
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in/a.png"), IMAGE[0])
    places = {"model": model, "folder": tmp_path, "images": tmp_path / "in"}
    assert main([*(word.format(**places) for word in command), "--out", str(tmp_path / "out")]) == 2
    assert "it lacks 'head/classify/bias'" in capsys.readouterr().err and not (tmp_path / "out").is_file()


def test_a_missing_backbone_that_was_trained_is_named(tmp_path, whole):
    config = {**whole[1]["config"], "trainable": ["backbone/", "adapters/", "head/"]}
    with pytest.raises(UserError, match="lacks 'backbone/cls_token'"):
        load(rewritten(tmp_path / "model.safetensors", whole, ["backbone/cls_token"], config=config))


def test_a_head_that_was_not_trained_may_not_be_missing_either(tmp_path, whole):
    config = {**whole[1]["config"], "trainable": ["adapters/"]}
    with pytest.raises(UserError, match="lacks 'head/classify/bias'"):
        load(rewritten(tmp_path / "model.safetensors", whole, ["head/"], config=config))


def test_a_frozen_backbone_may_be_missing(tmp_path, whole):
    _, found, _ = build.load_parts(rewritten(tmp_path / "model.safetensors", whole, ["backbone/"]))
    for name, array in whole[0].items():
        np.testing.assert_array_equal(found[name], array)


def test_what_follows_from_the_backbone_may_be_missing():
    """SoMA's first factors are computed from the frozen weights."""
    config = tiny_config("soma")
    config.adapter.rank = 4
    module_def, trainable, frozen = build.abstract_params(config, CITYSCAPES)
    computed = {name for name in frozen if name.startswith("adapters/")}
    needed = build.not_elsewhere(module_def, trainable, frozen)
    assert computed and computed <= missing_arrays("file", trainable, {**trainable, **frozen}, needed)


def test_a_model_without_its_hashes_is_refused(tmp_path, whole, capsys):
    """As if somebody had removed the entry to change the rest."""
    path = rewritten(tmp_path / "model.safetensors", whole)
    found = read_checkpoint(path)
    metadata = {key: value for key, value in found.metadata.items() if key != "sha256"}
    write_safetensors(tmp_path / "bare.safetensors", {name: found[name] for name in found}, metadata)
    with pytest.raises(UserError, match="list of hashes is missing"):
        load(tmp_path / "bare.safetensors")
    assert main(["show", str(tmp_path / "bare.safetensors")]) == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(tmp_path, whole, value):
    arrays = {name: array.copy() for name, array in whole[0].items()}
    arrays["head/classify/bias"][0] = value
    with pytest.raises(UserError, match="'head/classify/bias' holds values that are not finite"):
        load(rewritten(tmp_path / "model.safetensors", (arrays, whole[1])))


@pytest.mark.parametrize(("key", "value", "word"), [
    ("palette", "red", "palette"), ("palette", [[0, 0, 999]] * 19, "0 to 255"), ("palette", [["<script>", 0, 0]] * 19, "palette"),
    ("palette", [[0, 0]] * 19, "palette"), ("palette", [[1.5, 0, 0]] * 19, "palette"), ("palette", {"0": [1, 2, 3]}, "palette"),
    ("palette", [[True, 0, 0]] * 19, "palette"), ("palette", [[0, 0, 0]] * 3, "3 colours"), ("palette", None, "palette"),
    ("classes", "road", "classes"), ("classes", [], "classes"), ("classes", list(range(19)), "classes"), ("classes", None, "classes"),
    ("classes", ["x"] * 300, "classes"), ("config", [], "config"), ("config", None, "config"), ("config", {}, "config"),
    ("config", {"backbone": {"name": "dinov2_tiny"}}, "config"), ("preprocessing", "none", "preprocessing"), ("step", "x", "step"),
    ("licence", ["x"], "licence"),
])
def test_metadata_of_another_type_are_refused(tmp_path, whole, key, value, word):
    path = rewritten(tmp_path / "model.safetensors", whole, **{key: value})
    with pytest.raises(UserError, match=word) as caught:
        load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("change", "word"), [
    (lambda c: c["head"].update(channels=4_000_000), "channels"),
    (lambda c: c["adapter"].update(rank=4_000_000), "tokens_a"),
    (lambda c: c["adapter"].update(rank="16"), "rank"),
    (lambda c: c["backbone"].update(image_size=1_000_000), "parameters|does not fit"),
    (lambda c: c["backbone"].update(image_size=[0, 64]), "."),
    (lambda c: c["backbone"].update(name="dinov2_vitx14"), "dinov2_vitx14"),
    (lambda c: c["head"].update(name="os:system"), "os:system"),
    (lambda c: c.update(trainable=["nothing/"]), "nothing/"),
    (lambda c: c.update(trainable=["("]), "expression"),
])
def test_configs_that_do_not_fit_the_file(tmp_path, whole, change, word):
    """Shapes decide before anything is allocated."""
    config = json.loads(json.dumps(whole[1]["config"]))
    change(config)
    path = rewritten(tmp_path / "model.safetensors", whole, config=config)
    with pytest.raises(UserError, match=word):
        load(path)


def test_a_config_without_bounds_allocates_nothing(tmp_path, whole):
    """The frozen backbone is missing, so its position embedding would be made for the image size of the config."""
    config = json.loads(json.dumps(whole[1]["config"]))
    config["backbone"]["image_size"] = 1_000_000
    path = rewritten(tmp_path / "model.safetensors", whole, ["backbone/"], config=config)
    with pytest.raises(UserError, match="more than any"):
        load(path)


def test_a_loaded_model_does_not_depend_on_its_file(tmp_path, whole):
    """Overwritten in place, cut short, removed: the predictions stay."""
    path = rewritten(tmp_path / "model.safetensors", whole)
    model = load(path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\0" * (size - size // 2))
        overwritten = model.predict(IMAGE, whole=True)[0].scores
        file.truncate(100)
    after = model.predict(IMAGE, whole=True)[0].scores
    np.testing.assert_array_equal(overwritten, after)
    np.testing.assert_array_equal(after, load(rewritten(tmp_path / "again.safetensors", whole)).predict(IMAGE, whole=True)[0].scores)


def test_foreign_metadata_are_shown_or_refused(tmp_path, whole, capsys):
    """What the commands print of nested entries of any type."""
    odd = [{"config": {"data": 3}},
           {"config": {"data": {"train": ["streets"]}}}, {"config": {"trainable": [1, 2]}}, {"evaluation": {"domains": [1]}},
           {"evaluation": {"mean": 3}}, {"imported_from": {}}, {"config": {"adapter": "rein", "eval": 3}}, {"weights": {"name": ["x"]}}]
    for extra in odd:
        path = rewritten(tmp_path / "model.safetensors", whole, **extra)
        for arguments in (["show", str(path)], ["diff", str(path), str(path)], ["show", str(path), "--json"]):
            assert main(arguments) in (0, 2)
            assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a\x1b[31m\x1b]0;owned\x07b", "x\u202ey", "new\nline", "\x9bc1", "\r\x08back"])
def test_names_cannot_steer_a_terminal(tmp_path, whole, name, capsys):
    """Escape sequences, line breaks and marks of writing direction in names and metadata are shown escaped."""
    w = np.ones(2, np.float32)
    write_safetensors(tmp_path / "a.safetensors", {name: w}, {name: name})
    classes = [name, *whole[1]["classes"][1:]]
    model = rewritten(tmp_path / "m.safetensors", whole, classes=classes, config={**whole[1]["config"], "name": name, name: name})
    other = rewritten(tmp_path / "n.safetensors", whole)
    for arguments in (["show", str(tmp_path / "a.safetensors"), "--names"], ["show", str(model), "--names"],
                      ["diff", str(model), str(other)], ["convert", str(tmp_path / "a.safetensors"), str(tmp_path / "b.pth"), "--names"],
                      ["show", str(model), "--json"], ["diff", str(model), str(other), "--json"]):
        assert main(arguments) == 0
        shown = capsys.readouterr()
        lines = shown.out + shown.err
        assert not {c for c in lines if not (c.isprintable() or c == "\n")}, arguments
        assert "new\nline" not in lines


def test_the_format_is_what_makes_a_model(tmp_path):
    write_safetensors(tmp_path / "a.safetensors", {"w": np.ones(2)}, {"format": json.dumps(FORMAT), "config": "[" * 5000})
    with pytest.raises(UserError, match="not a model that rein wrote"):
        load(tmp_path / "a.safetensors")


def test_names_that_are_no_text(tmp_path):
    spec = b'{"\\ud800": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
    (tmp_path / "a.safetensors").write_bytes(len(spec).to_bytes(8, "little") + spec + bytes(4))
    assert main(["show", str(tmp_path / "a.safetensors"), "--names"]) == 2

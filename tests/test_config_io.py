"""Config files, overrides and their JSON form: what loads, and the sentence for what does not."""

import json

import pytest
from ml_collections import ConfigDict

from data_pipelines.errors import DataError
from rein_jax import configuration
from rein_jax.datasets import open_entry
from rein_jax.errors import UserError

FILE = """
from ml_collections import ConfigDict

def get_config(arg=None):
    return ConfigDict({"name": arg or "plain", "crop": (8, 8), "optim": {"lr": 0.1, "clip": None}, "on": True,
                       "train": {"steps": 7}, "data": {"weights": ()}})
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return str(path)


def test_loads_with_argument_defaults_and_overrides(file):
    config = configuration.load(f"{file}:big", ["optim.lr=3e-4", "crop=(4, 6)", "on=false", "train.steps=9", "optim.clip=1.0"])
    assert (config.name, config.optim.lr, config.crop, config.on) == ("big", 3e-4, (4, 6), False)
    assert (config.train.steps, config.optim.clip) == (9, 1.0)
    assert config.train.keep == 3 and config.precision == "auto" and config.mesh.data == -1  # the trainer's defaults


@pytest.mark.parametrize("override, words", [
    ("optim.lrr=1", "Did you mean 'optim.lr'"), ("train.stepz=1", "Did you mean 'train.steps'"), ("zzz=1", "Known: crop, data"),
    ("train.steps=2.5", "type int"), ("train.steps=many", "type int"), ("on=maybe", "true or false"), ("optim=3", "is a section"),
    ("optim.lr.x=3", "is a value, not a section"), ("optim.lr", "KEY=VALUE"), ("optim.lr=fast", "type float"),
])
def test_override_mistakes_name_the_key(file, override, words):
    with pytest.raises(UserError, match=words):
        configuration.load(file, [override])


def test_texts_lists_and_numbers_keep_their_type(file):
    config = configuration.load(file, ["name=12", "data.weights=1,2", "optim.lr=1"])
    assert config.name == "12" and config.data.weights == (1, 2) and isinstance(config.optim.lr, float)


def test_elements_of_lists_go_by_number(tmp_path):
    text = "def get_config(): return ConfigDict({'data': {'sources': [{'name': 'a', 'root': ''}], 'crop': (8, 9)}})"
    (tmp_path / "c.py").write_text(f"from ml_collections import ConfigDict\n{text}")
    config = configuration.load(str(tmp_path / "c.py"), ["data.sources.0.root=/data/x", "data.crop.1=16"])
    assert config.data.sources[0]["root"] == "/data/x" and config.data.crop == (8, 16)
    for override, words in (("data.sources.1.root=x", "is a value"), ("data.sources.0.rot=x", "Did you mean 'data.sources.0.root'")):
        with pytest.raises(UserError, match=words):
            configuration.load(str(tmp_path / "c.py"), [override])


def test_entries_of_data_sets_take_new_keys(tmp_path):
    overrides = ["data.train.0.source=/data/camvid", "data.train.0.subset=1/16", "eval.domains.1.labels=trainIds"]
    config = configuration.load("configs/camvid_dinov2s.py", overrides)
    assert config.data.train[0]["source"] == "/data/camvid" and config.data.train[0]["subset"] == "1/16"
    assert config.eval.domains[1]["labels"] == "trainIds" and "labels" not in config.eval.domains[0]
    (tmp_path / "config.json").write_text(configuration.to_json(config))  # its lists come back as tuples
    assert configuration.load(str(tmp_path / "config.json"), ["data.train.0.exif=ignore"]).data.train[0]["exif"] == "ignore"
    with pytest.raises(UserError, match="Unknown config key 'data.train.7.source'"):
        configuration.load("configs/camvid_dinov2s.py", ["data.train.7.source=x"])


@pytest.mark.parametrize("name", ["camvid_dinov2s", "folder", "quickstart"])
def test_a_misspelt_option_of_a_data_set_is_named_when_it_is_opened(name):
    entry = configuration.load(name, ["data.train.0.sorce=/data/x"]).data.train[0]
    with pytest.raises(DataError, match="has no option 'sorce'; it knows"):
        open_entry(entry)


def test_splits_the_command_line():
    assert configuration.split_overrides(["--config.a.b=1", "--workdir", "x", "--config.c", "2"]) == (["a.b=1", "c=2"], ["--workdir", "x"])
    with pytest.raises(UserError, match="needs a value"):
        configuration.split_overrides(["--config.a"])


@pytest.mark.parametrize("text, words", [("def get_config(:", "not valid Python"), ("x = 1", "no function get_config"),
                                         ("def get_config(): return 3", "not a ConfigDict")])
def test_broken_files(tmp_path, text, words):
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(UserError, match=words):
        configuration.load(str(tmp_path / "bad.py"))


def test_argument_that_is_not_taken(tmp_path):
    (tmp_path / "none.py").write_text("from ml_collections import ConfigDict\ndef get_config(): return ConfigDict()")
    with pytest.raises(UserError, match="takes no argument"):
        configuration.load(f"{tmp_path / 'none.py'}:x")


def test_unknown_config_proposes_a_packaged_one():
    with pytest.raises(UserError, match="Did you mean configs/quickstart.py"):
        configuration.load("configs/quickstar.py")
    assert configuration.load("quickstart").train.steps > 0


def test_json_round_trip(file, tmp_path):
    config = configuration.load(file)
    path = tmp_path / "config.json"
    path.write_text(configuration.to_json(config))
    assert configuration.load(str(path)) == config
    assert configuration.from_json(json.loads(configuration.to_json(config))).crop == (8, 8)
    with pytest.raises(UserError, match="There is no config file"):
        configuration.load(str(tmp_path / "no.json"))
    path.write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        configuration.load(str(path))
    assert isinstance(config, ConfigDict)


@pytest.mark.parametrize("text, value", [("false", False), ("True", True), ("3", 3), ("spread", "spread")])
def test_options_that_the_file_does_not_spell_take_true_and_false(text, value):
    found = configuration.load("configs/rein_dinov2_gta.py", [f"adapter.query_init={text}"]).adapter.query_init
    assert found == value and type(found) is type(value)


def test_a_comma_inside_a_value_is_escaped_and_the_error_says_how():
    config = configuration.load(r"configs/folder.py:source=/data/a\,b/c,crop=512,classes=x\,y.txt")
    for entry in (config.data.train[0], config.eval.domains[0]):
        assert entry["source"] == "/data/a,b/c" and entry["classes"] == "x,y.txt"
    assert config.data.crop == (512, 512)
    for given, piece in (("source=/data/a,b/c", "b/c"), ("source=/data/a,b=1/c", "b=1/c")):
        with pytest.raises(UserError) as error:
            configuration.load(f"configs/folder.py:{given}")
        fixed = str(error.value).split("'")[-2]
        assert piece in str(error.value) and "Was the comma part of a value?" in str(error.value)
        assert configuration.load(f"configs/folder.py:{fixed}").data.train[0]["source"] == given.partition("=")[2]
    with pytest.raises(UserError, match="'crop' needs a value: crop="):
        configuration.load("configs/folder.py:source=x,crop")


def test_what_masks_mean_reaches_training_and_validation():
    given = "folder:source=x,values=7+8:road/26:car/0+255:ignore,ignore=0,masks=gt,encoding=index,policy=skip,exif=ignore,images=i"
    config = configuration.load(given)
    for entry in (config.data.train[0], config.eval.domains[0]):
        assert {**entry, "name": "", "split": ""} == {
            "name": "", "split": "", "source": "x", "values": "7+8:road/26:car/0+255:ignore", "ignore": "0", "masks": "gt",
            "encoding": "index", "policy": "skip", "exif": "ignore", "images": "i",
        }  # fmt: skip

"""`rj.config`, `rj.train` and `rj.data`: a run from Python, with Python objects in its config."""

import json
from functools import partial

import jax
import numpy as np
import optax
import pytest

import rein_jax as rj
from data_pipelines.errors import DataError
from rein_jax import configuration, trees
from rein_jax.configuration.objects import stated
from rein_jax.datasets import open_domains, training_data
from rein_jax.losses.pixel_loss import PixelLoss
from tests.use import tiny  # noqa: F401  (registers dinov2_tiny)


class Scenes:
    """A data set of one's own: six small pictures in memory, of which the upper half is sky."""

    classes = ("ground", "sky", "car")

    def __init__(self, seed: int = 0, length: int = 6):
        self.seed, self.length = seed, length

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        image = np.random.default_rng((self.seed, i)).integers(0, 255, (64, 80, 3), np.uint8)
        label = np.zeros((64, 80), np.int64)
        label[:32], label[40:50, 10:30], label[0, 0] = 1, 2, 255
        return {"image": image, "label": label, "name": f"scene {i}"}


def doubled(outputs, label, key=None):
    """A loss of one's own: twice the cross-entropy."""
    total, terms = PixelLoss(3)(outputs, label)
    return 2 * total, {"doubled": 2 * total, **terms}


STEPS = optax.sgd(1e-2, momentum=0.9)


class Flat(rj.LinearHead):
    """A head of one's own, not registered."""


def settings(**more) -> dict:
    return {
        "backbone": {"name": "dinov2_tiny", "weights": "random", "image_size": 64}, "adapter": {"num_tokens": 4, "rank": 2, "link": False},
        "head": {"name": "linear"}, "data": {"train": [Scenes()], "crop": (64, 64), "resize": "none", "threads": 1},
        "eval": {"domains": [Scenes(1, 2)], "crop": 64, "stride": 32}, "seed": 3,
        "train": {"steps": 4, "batch": 2, "log_every": 1, "checkpoint_every": 2, "tensorboard": False}, **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = rj.config(loss={"name": doubled}, optim_name=STEPS, **settings(head={"name": Flat}))
    return rj.train(config, tmp_path_factory.mktemp("run") / "run")


def test_a_run_of_objects_gives_results_model_and_report(run):
    assert run.results["steps"] == 4 and set(run.results["evaluation"]["domains"]) == {"Scenes"}
    assert type(run.model) is rj.Segmenter and type(run.model.head) is Flat and run.model.classes.names == Scenes.classes
    page = run.report.read_text(encoding="utf-8")
    assert run.report == run.workdir / "report.html" and "Scenes" in page and ">tests.public.test_train:Flat<" in page
    found = run.model.predict(Scenes()[0]["image"])
    assert found.labels.shape == (64, 80)
    rows = [json.loads(line) for line in (run.workdir / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if row["kind"] == "train"]
    assert all(row["doubled"] == pytest.approx(row["loss"]) == pytest.approx(2 * row["loss_ce"]) for row in trained)


def test_a_run_of_objects_goes_on_where_it_was(run, tmp_path):
    """Two steps, and then the other two: as four at once."""
    config = rj.config(loss={"name": doubled}, optim_name=STEPS, **settings(head={"name": Flat}))
    config.train.steps, config.train.eval_at_end = 2, False
    rj.train(config, tmp_path / "run")
    config.train.steps = 4
    longer = rj.train(config, tmp_path / "run", extend=True)
    ours, theirs = (trees.flatten(one.model) for one in (longer, run))
    for name, array in theirs.items():
        np.testing.assert_array_equal(array, ours[name], err_msg=name)


def test_objects_are_stated_by_name_and_tell_one_run_from_another(run, tmp_path):
    config = json.loads((run.workdir / "config.json").read_text())
    assert config["loss"]["name"] == {"object": "tests.public.test_train:doubled"}
    assert config["head"]["name"] == {"object": "tests.public.test_train:Flat"}
    entry = config["data"]["train"][0]
    assert entry["object"] == "tests.public.test_train:Scenes"
    assert config["optim"]["name"]["object"].startswith("optax.")
    again = rj.config(loss={"name": doubled}, optim_name=STEPS, **settings(head={"name": Flat}))
    assert rj.train(again, run.workdir).results["steps"] == 4  # the same: nothing is left to do
    other = rj.config(loss={"name": doubled}, optim_name=STEPS, **settings(head={"name": Flat}))
    other.data.train = [Scenes(9)]
    with pytest.raises(rj.UserError, match="The training data changed since the checkpoint was written"):
        rj.train(other, run.workdir)
    other = rj.config(loss={"name": doubled}, optim_name=optax.sgd(1e-2, momentum=0.8), **settings(head={"name": Flat}))
    with pytest.raises(rj.UserError, match=r"optim.name.fingerprint: '\w+' -> '\w+'"):
        rj.train(other, run.workdir)
    with pytest.raises(rj.UserError, match=r"loss.name.object: 'tests.public.test_train:doubled' -> '\(unset\)'"):
        rj.train(rj.config(optim_name=STEPS, **settings(head={"name": Flat})), run.workdir)
    opened = rj.Run(run.workdir)
    assert opened.results["evaluation"] == run.results["evaluation"] and opened.config.train.steps == 4 and "4 steps" in repr(opened)
    with pytest.raises(rj.UserError, match="holds no finished run"):
        rj.Run(tmp_path)


def test_an_own_class_that_is_not_known_is_not_imported(run, monkeypatch):
    monkeypatch.setattr("rein_jax.registry._USED", [])
    with pytest.raises(rj.UserError, match=r"The head is tests.public.test_train:Flat, which is not known here; import the module"):
        rj.Segmenter.from_pretrained(run.workdir)


@pytest.mark.parametrize("changed, said", [
    ({}, "config.optim.name is {.*'object': 'optax._src.base:GradientTransformationExtraArgs'.*}; it must be a text or an optax"),
    ({"optim": {"name": "sgd"}, "loss": {"name": "pixel"}},
     "names a data set that was a Python object, tests.public.test_train:Scenes; no file holds it"),
    ({"optim": {"name": "sgd"}, "data": {"train": [Scenes()]}, "eval": {"domains": []}},
     "names a loss that was a Python object, tests.public.test_train:doubled; put such an object back as config.loss.name"),
])  # fmt: skip
def test_objects_have_to_be_put_back_into_a_runs_config(run, tmp_path, changed, said):
    config = run.config
    for section, values in changed.items():
        for key, value in values.items():
            with config.ignore_type():
                config[section][key] = value
    with pytest.raises(rj.UserError, match=said):
        rj.train(config, tmp_path / "run")


def test_what_tells_objects_apart():
    def fingerprint(tx):
        return stated(tx).get("fingerprint")

    def cosine(steps):
        return optax.adam(optax.cosine_decay_schedule(1e-3, steps))

    assert fingerprint(cosine(1000)) == fingerprint(cosine(1000)) != fingerprint(cosine(2000))
    assert fingerprint(optax.sgd(0.1, momentum=0.9)) != fingerprint(optax.sgd(0.1, momentum=0.8))
    of_one_model = optax.partition({"a": optax.sgd(0.1)}, {"only/this": "a"})
    assert stated(of_one_model) == {"object": "optax._src.base:GradientTransformationExtraArgs"}
    assert stated(partial(doubled, key=1)) == {"object": "functools:partial", "repr": "functools.partial(<function doubled>, key=1)"}
    assert stated({"a": (Scenes(), Flat)}) == {
        "a": [{"object": "tests.public.test_train:Scenes"}, {"object": "tests.public.test_train:Flat"}]}  # fmt: skip


@pytest.mark.parametrize("config, said", [
    (3, "rj.train was given 3; give a config of rj.config, a dict"),
    ({"trainn": 3}, "Unknown config key 'config.trainn'. Did you mean 'config.train'"),
    ({"head": {"name": 3}}, "config.head.name is 3; it must be a text or a class"),
    ({"loss": {"name": 3}}, "config.loss.name is 3; it must be a text or a class or function"),
    ({"optim": {"name": optax.sgd}}, "config.optim.name is <function sgd .*; it must be a text or an optax.GradientTransformation"),
    ({"data": {"train": ["streets"]}}, r"config.data.train is \['streets'\]; it must be a list of data sets"),
    ({"data": {"train": [{"source": Scenes(), "subset": "1/2"}]}}, "Scenes has no option 'subset'; an object as data set takes classes"),
])  # fmt: skip
def test_configs_that_cannot_be_are_refused(tmp_path, config, said):
    with pytest.raises((rj.UserError, DataError), match=said):
        rj.train(config, tmp_path / "run")


def test_objects_in_entries_take_a_name_and_a_label():
    config = rj.config(**settings(), eval_domains=[{"source": Scenes(1), "name": "mine", "split": "val", "label": "night"}, Scenes(2)])
    domains = open_domains(config)
    assert list(domains) == ["night", "Scenes"] and (domains["night"].name, domains["night"].split) == ("mine", "val")


def test_a_class_stands_for_a_section():
    config = rj.config("gta_to_cbm", head=Flat, adapter=rj.LoRA)
    assert config.head.to_dict() == {"name": Flat} and config.adapter.to_dict() == {"name": rj.LoRA}
    backbone = rj.config("gta_to_cbm", backbone=rj.DINOv2).backbone
    assert backbone.name is rj.DINOv2 and backbone.image_size == 512


def test_families_are_named_or_files(tmp_path):
    same = rj.config("gta_to_cbm", backbone="dinov2_s", method="lora").to_dict()
    assert rj.config("gta_to_cbm:backbone=dinov2_s", method="lora").to_dict() == same
    file = tmp_path / "mine.py"
    file.write_text("from rein_jax.configuration import default, parse\nARGS = {'places': '', 'flip': 'true'}\n\n"
                    "def get_config(arg=None):\n    config = default()\n    config.name = repr(parse(arg, **ARGS))\n    return config\n")
    assert rj.config(file, places=["a,b", 3], flip=False).name == "{'places': 'a,b,3', 'flip': 'false'}"


def test_config_of_keywords():
    config = rj.config("gta_to_cbm", backbone="dinov2_s", method="lora", rank=4, data_root="/data", train={"steps": 7}, seed=5,
                       optim_clip=0.5, **{"eval.batch": 2}, adapter_dropout=0.1)  # fmt: skip
    same = configuration.load("gta_to_cbm:backbone=dinov2_s,method=lora,rank=4", [
        "data.root=/data", "train.steps=7", "seed=5", "optim.clip=0.5", "eval.batch=2", "adapter.dropout=0.1"])  # fmt: skip
    assert config.to_dict() == same.to_dict()
    config.train.steps = 9
    assert rj.config().to_dict() == configuration.default().to_dict()
    assert rj.config("rein_dinov2_gta", train_steps=3).train.steps == 3


@pytest.mark.parametrize("keywords, said", [
    ({"backbon": "dinov2_s"}, "Unknown keyword of rj.config 'backbon'. Did you mean 'backbone'"),
    ({"train_stepz": 3}, "Unknown config key 'train.stepz'. Did you mean 'train.steps'"),
    ({"train_steps": "3"}, "The config key 'train.steps' needs a value of type int, such as .*, not '3'"),
    ({"train_steps": True}, "needs a value of type int"),
    ({"optim_lr": 1, "seed": 2.5}, "The config key 'seed' needs a value of type int"),
    ({"train": 3}, "The config key 'train' is a section"),
    ({"method": STEPS}, "The keyword method of rj.config is .*; give a text, a number"),
    ({"data_root": "gs://bucket/data"}, "config.data.root: gs://bucket/data is not a path on this machine"),
])  # fmt: skip
def test_keywords_that_nothing_reads_are_refused(keywords, said):
    with pytest.raises(rj.UserError, match=said):
        rj.config("gta_to_cbm", **keywords)


def test_loader_gives_the_trainers_batches():
    config = rj.config(**settings(), data_weights=(1.0, 2.0))
    config.data.train, config.data.resize = [Scenes(), Scenes(1)], "40:80"
    _, batches, _ = training_data(config)
    with rj.data.loader([rj.data.open(Scenes()), Scenes(1)], crop=64, batch_size=2, weights=(1, 2), seed=3, resize="40:80", threads=1,
                        start_step=1, names=True) as ours:  # fmt: skip
        theirs = batches(1)
        for _ in range(3):
            a, b = next(ours), next(theirs)
            assert a["name"] == b["name"] and a["name"][0].startswith("scene")
            for key in ("image", "label", "size", "index"):
                np.testing.assert_array_equal(a[key], b[key])
        theirs.close()
    with pytest.raises(rj.UserError, match=r"sources\[1\] has other classes than sources\[0\]"):
        rj.data.loader([Scenes(), rj.data.open("streets", length=2, size=(64, 96))])


@pytest.mark.parametrize("arguments, said", [
    ({"crop": "512"}, "loader: crop is '512'; it must be a whole number of at least 1 or a list of 2 values"),
    ({"batch_size": 0}, "loader: batch_size is 0; it must be"), ({"flip": 2}, "loader: flip is 2; it must be a number of at least 0"),
    ({"resize": "x"}, "loader: resize is 'x'; give official, none"), ({"workers": -1}, "loader: workers is -1; it must be a whole number"),
    ({"weights": (1, 2)}, "give one number above 0 for each of the 1 sources"),
])  # fmt: skip
def test_arguments_of_the_loader_that_cannot_be(arguments, said):
    with pytest.raises((rj.UserError, DataError), match=said):
        rj.data.loader(Scenes(), **arguments)


def test_evaluate_takes_one_source(run):
    for domains in (rj.data.open(Scenes(1, 2)), {"mine": Scenes(1, 2)}):
        found = rj.evaluate(run.model, domains, crop=64, stride=32, progress=False)
        assert found.mean["mIoU"] == pytest.approx(run.results["evaluation"]["mean"]["mIoU"])
    assert list(found.domains) == ["mine"]


class Pairs(Scenes):
    """As PyTorch's data sets give theirs, with arrays that NumPy converts."""

    def __getitem__(self, i):
        element = super().__getitem__(i)
        return jax.numpy.asarray(element["image"]), element["label"].tolist()


def test_any_object_is_a_source():
    source = rj.data.open(Pairs(), classes={"ground": (1, 2, 3), "sky": (4, 5, 6), "car": (7, 8, 9)}, name="mine", split="val")
    element = source[-1]
    assert element["image"].dtype == element["label"].dtype == np.uint8 and element["name"] == "mine-5"
    assert (source.name, source.split, source.domain, len(source), source.classes.palette[2]) == ("mine", "val", "mine", 6, (7, 8, 9))
    assert source.fingerprint() == rj.data.open(Pairs(), classes=["ground", "sky", "car"], name="mine", split="val").fingerprint()
    assert source.fingerprint() != rj.data.open(Pairs(1), classes=["ground", "sky", "car"], split="val").fingerprint()

    class Named(Scenes):
        def fingerprint(self):
            return "version 7"

    assert rj.data.open(Named()).fingerprint() == "version 7"


@pytest.mark.parametrize("element, said", [
    ({"image": np.zeros((4, 4, 3), np.float32), "label": np.zeros((4, 4), int)}, r"mine: element 0: the image is float32 \(4, 4, 3\)"),
    ({"image": np.zeros((4, 4), np.uint8), "label": np.zeros((4, 4), int)}, r"the image is uint8 \(4, 4\); it must be uint8"),
    ({"image": np.zeros((4, 4, 3), np.uint8), "label": np.zeros((4, 5), int)}, r"the label is int64 \(4, 5\)"),
    ({"image": np.zeros((4, 4, 3), np.uint8), "label": np.zeros((4, 4))}, "the label is float64"),
    ({"image": np.zeros((4, 4, 3), np.uint8), "label": np.full((4, 4), 7)}, "the label holds 7, but there are the classes 0 to 2"),
    ({"image": np.zeros((4, 4, 3), np.uint8), "label": np.full((4, 4), -1)}, "the label holds -1, but .* the value 255"),
    ({"image": np.zeros((4, 4, 3), np.uint8)}, "mine: element 0 has no 'label', only 'image'"),
    (3, "mine: element 0 is a int; it must be"),
    ({"image": [[1], [1, 2]], "label": 3}, "mine: element 0 is nothing that NumPy makes an array of"),
])  # fmt: skip
def test_elements_that_do_not_fit_are_named(element, said):
    source = rj.data.open([element], classes=["a", "b", "c"], name="mine")
    with pytest.raises(DataError, match=said):
        source[0]


def test_objects_that_are_no_data_sets():
    with pytest.raises(DataError, match="generator is not a data set: it lacks __len__ and __getitem__"):
        rj.data.open((x for x in ()), classes=["a"])
    with pytest.raises(DataError, match="list does not say its classes; give classes="):
        rj.data.open([])
    with pytest.raises(DataError, match="classes= holds 2 names, 1 of them different"):
        rj.data.open([], classes=["a", "a"])
    with pytest.raises(rj.UserError, match="belongs to a data set by name"):
        rj.data.open(Scenes(), "/data")
    with pytest.raises(rj.UserError, match="name='x' is for an object; the data set 'streets' has its name already"):
        rj.data.open("streets", name="x")
    with pytest.raises(DataError, match="classes= is 3; give a list of names"):
        rj.data.open([], classes=3)
    opened = rj.data.open(Scenes(), split="val")
    assert rj.data.open(opened) is opened
    for options in ({"classes": ["a"]}, {"split": "test"}):
        with pytest.raises(DataError, match=rf"Scenes is a source already, opened at split 'val'; give {next(iter(options))}= where it is"):
            rj.data.open(opened, **options)


def test_elements_that_do_not_fit_are_skipped_on_request():
    good = (np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), int))
    source = rj.data.open([3, good], classes=["a"], policy="skip")
    assert source[0]["name"] == "list-1" and list(source.problems) == ["list-0"] and len(source.fingerprint()) == 64


def test_a_registered_data_set(registries, capsys):
    rj.register("dataset", "scenes", lambda split="train", source=None, seed=0: rj.data.open(Scenes(seed), split=split))
    assert len(rj.data.open("scenes", split="val", seed=4)) == 6
    config = rj.config(**settings(data={"train": [{"name": "scenes", "seed": 2}], "crop": (64, 64), "resize": "none", "threads": 1}))
    classes, batches, _ = training_data(config)
    assert classes.names == Scenes.classes
    batch = next(batches(0))
    assert batch["image"].shape == (2, 64, 64, 3)
    from rein_jax.cli.data import main

    assert main(["list"]) == 0 and "scenes      registered in this process" in capsys.readouterr().out


def test_several_values_of_a_folders_masks_are_one_class(tmp_path):
    import cv2

    for folder in ("images/train", "labels/train"):
        (tmp_path / folder).mkdir(parents=True)
    mask = np.zeros((16, 16), np.uint8)
    mask[:4], mask[4:8], mask[8:12], mask[12:] = 13, 14, 7, 255
    cv2.imwrite(str(tmp_path / "images/train/a.png"), np.zeros((16, 16, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "labels/train/a.png"), mask)
    source = rj.data.open("folder", tmp_path, values={"car": [13, 14], "road": [7], "ignore": [0, 255]})
    assert source.classes.names == ("car", "road")
    assert [int(source[0]["label"][row, 0]) for row in (0, 5, 9, 15)] == [0, 0, 1, 255]
    with pytest.raises(DataError, match="13"):
        rj.data.open("folder", tmp_path, values={"car": [13, 14], "road": [7, 13], "ignore": [0, 255]})
    with pytest.raises(DataError, match="14"):
        rj.data.open("folder", tmp_path, values={"car": [13], "road": [7], "ignore": [0, 255]})[0]
    with pytest.raises(DataError, match="folder has no option 'value'"):
        rj.data.open("folder", tmp_path, value={"car": [13]})

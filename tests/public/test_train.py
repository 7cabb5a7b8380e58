"""`rj.config`, `rj.train` and `rj.data`: a run from Python, with Python objects in its config."""

import json

import jax
import numpy as np
import optax
import pytest

import rein_jax as rj
from data_pipelines.errors import DataError
from rein_jax import configuration, trees
from rein_jax.datasets import training_data
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
    assert run.report == run.workdir / "report.html" and "Scenes" in run.report.read_text(encoding="utf-8")
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
])  # fmt: skip
def test_keywords_that_nothing_reads_are_refused(keywords, said):
    with pytest.raises(rj.UserError, match=said):
        rj.config("gta_to_cbm", **keywords)


def test_loader_gives_the_trainers_batches():
    config = rj.config(**settings(), data_weights=(1.0, 2.0))
    config.data.train, config.data.resize = [Scenes(), Scenes(1)], "40:80"
    _, batches, _ = training_data(config)
    with rj.data.loader([rj.data.open(Scenes()), Scenes(1)], crop=64, batch_size=2, weights=(1, 2), seed=3, resize="40:80", threads=1,
                        start_step=1) as ours:  # fmt: skip
        theirs = batches(1)
        for _ in range(3):
            a, b = next(ours), next(theirs)
            assert a["name"] == b["name"] and a["name"][0].startswith("scene")
            for key in ("image", "label", "size", "index"):
                np.testing.assert_array_equal(a[key], b[key])
        theirs.close()
    with pytest.raises(rj.UserError, match=r"sources\[1\] has other classes than sources\[0\]"):
        rj.data.loader([Scenes(), rj.data.open("streets", length=2, size=(64, 96))])


def test_evaluate_takes_one_source(run):
    found = rj.evaluate(run.model, rj.data.open(Scenes(1, 2)), crop=64, stride=32, progress=False)
    assert found.mean["mIoU"] == pytest.approx(run.results["evaluation"]["mean"]["mIoU"])


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
])  # fmt: skip
def test_elements_that_do_not_fit_are_named(element, said):
    source = rj.data.open([element], classes=["a", "b", "c"], name="mine")
    with pytest.raises(DataError, match=said):
        source[0]


def test_objects_that_are_no_data_sets():
    with pytest.raises(DataError, match="generator is no data set: it lacks __len__ and __getitem__"):
        rj.data.open((x for x in ()), classes=["a"])
    with pytest.raises(DataError, match="list does not say its classes; give classes="):
        rj.data.open([])
    with pytest.raises(DataError, match="classes= holds 2 names, 1 of them different"):
        rj.data.open([], classes=["a", "a"])
    with pytest.raises(rj.UserError, match="belongs to a data set by name"):
        rj.data.open(Scenes(), "/data")


def test_a_registered_data_set(monkeypatch):
    monkeypatch.delitem(__import__("data_pipelines").DATASETS, "scenes", raising=False)
    rj.register("dataset", "scenes", lambda split="train", source=None, seed=0: rj.data.open(Scenes(seed), split=split))
    assert len(rj.data.open("scenes", split="val", seed=4)) == 6
    config = rj.config(**settings(data={"train": [{"name": "scenes", "seed": 2}], "crop": (64, 64), "resize": "none", "threads": 1}))
    classes, batches, _ = training_data(config)
    assert classes.names == Scenes.classes
    batch = next(batches(0))
    assert batch["image"].shape == (2, 64, 64, 3)


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

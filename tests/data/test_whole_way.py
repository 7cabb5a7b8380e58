"""Every data set's miniature the whole way, from the files to the numbers: check, crops from the training pipeline, evaluation."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data_pipelines import open_source
from data_pipelines.check import check
from data_pipelines.labels import CITYSCAPES, VOID
from data_pipelines.protocols import protocol
from rein_jax import datasets
from rein_jax.configuration import default
from rein_jax.errors import UserError
from rein_jax.evaluation.evaluator import evaluate
from tests.data import miniatures
from tests.use.tiny import tiny_model

COLOURS = np.asarray(CITYSCAPES.palette, np.float32)  # every miniature paints class k in this palette's colour k
CROP = 32
WINDOWS = {"crop": CROP, "stride": 21}
HOW = {"batch": 4, "threads": 1, "progress": False, "calibration": False}


class Nearest(nnx.Module):
    """Scores a pixel by its distance to each class's colour: right about the miniatures but for noise and JPEG."""

    patch = 16

    def __init__(self, classes):
        self.classes = classes
        self.colours = nnx.Param(jnp.asarray(COLOURS[: len(classes)]))

    def scores(self, images, size=None):
        return -jnp.square(images[..., None, :].astype(jnp.float32) - self.colours[...]).sum(-1)


random_model = functools.cache(functools.partial(tiny_model, "rein", "linear"))


QUICK = ("gtav", "synthia", "cityscapes", "acdc:prepared", "camvid", "mapillary:half", "folder:colours")


@pytest.mark.parametrize("style", [s if s in QUICK else pytest.param(s, marks=pytest.mark.slow) for s in miniatures.STYLES])
def test_from_the_files_to_the_numbers(style, tmp_path):
    made, name = miniatures.build(style, tmp_path), style.partition(":")[0]
    options = {"size": "half"} if style.endswith(":half") else {}
    report, _ = check(name, made.root, partial=True, jobs=1, **options)
    assert report.fit
    for split in report.splits:
        source = open_source(name, split=split, source=made.root, **options)
        if not source.has_labels:
            with pytest.raises(UserError, match="has no labels"):
                evaluate(Nearest(source.classes), [source], **WINDOWS, **HOW)
            continue
        wanted = counts(source, [made.label_of(split, element["name"]) for element in source])
        assert list(report.splits[split].pixels.values()) == wanted
        every_labelled_pixel_is_counted(source, wanted)
    entry = {"name": name, "split": next(iter(report.splits)), "source": str(made.root), **options}
    crops_show_what_their_labels_say(entry)
    official_sizes_keep_the_pixels(datasets.open_entry({**entry, "subset": "1/9"}))


def counts(source, labels):
    """Pixels of each class, void left out."""
    return np.bincount(np.concatenate([label[label != VOID] for label in labels]), minlength=len(source.classes)).tolist()


def every_labelled_pixel_is_counted(source, wanted):
    """Sliding windows at the size of the files: a model that sees the colours, and a tiny Rein on DINOv2 with random weights."""
    right = measure(Nearest(source.classes), source, wanted, **WINDOWS)
    assert right["aAcc"] > 85 and 50 < right["mIoU"] <= 100
    drawn = measure(random_model(classes=source.classes), source, wanted, **WINDOWS)
    assert 0 <= drawn["mIoU"] < right["mIoU"]


def measure(model, source, wanted, **how):
    """The domain's results, whose confusion matrix has a row of `wanted` pixels for each class."""
    found = evaluate(model, {"mini": source}, **how, **HOW).domains["mini"]
    assert np.sum(found["confusion"], axis=1).tolist() == wanted
    assert found["images"] == found["of"] == len(source) and not found["skipped"]
    return found


def official_sizes_keep_the_pixels(source):
    """The sizes that the original tests at: predictions come back to the size of the label, Mapillary's at half the size."""
    element = source[0]
    image, label = protocol("official-512").apply(element["image"], element["label"], source)
    assert max(image.shape[:2]) >= 960
    found = measure(Nearest(source.classes), source, counts(source, [label]), protocol="official-512", mode="whole")
    assert found["aAcc"] > 70


def crops_show_what_their_labels_say(entry):
    """Batches of the pipeline that `rein train` makes of a config; without colour distortion pixels tell their class."""
    config = default()
    config.data.train, config.data.threads, config.train.batch = [entry], 1, 4
    config.data.crop, config.data.resize, config.data.photometric = (CROP, CROP), "36:96", False
    classes, plain, _ = datasets.training_data(config)
    config.data.photometric = True
    _, distorted, _ = datasets.training_data(config)
    source = datasets.open_entry(entry)
    assert classes == source.classes
    with plain(0) as loader, distorted(0) as training:
        batches = [next(loader) for _ in range(3)]
        for batch in (*batches, next(training)):
            assert batch["image"].shape == (4, CROP, CROP, 3) and batch["label"].shape == (4, CROP, CROP)
            assert batch["image"].dtype == batch["label"].dtype == np.uint8
            assert [source.entry_name(i) for _, i in batch["index"]] == batch["name"]
    images, labels = (np.stack([batch[key] for batch in batches]) for key in ("image", "label"))
    nearest = np.square(images[..., None, :] - COLOURS[: len(classes)]).sum(-1).argmin(-1)
    known = labels != VOID
    assert labels[known].max() < len(classes) and known.mean() > 0.5
    assert (nearest == labels)[known].mean() > 0.7  # the rest: borders blurred by resizing, noise, JPEG

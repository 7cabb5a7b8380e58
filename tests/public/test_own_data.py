"""What a stranger does with data of their own: any object by name, and batches straight into a compiled step."""

import jax
import numpy as np
import pytest

import data_pipelines
import rein_jax as rj
from data_pipelines.errors import DataError
from rein_jax.datasets import open_entry


class Grey:
    """No source, no name, no fingerprint: a length and elements."""

    classes = ("one", "two")

    def __init__(self, split="train", side=32):
        self.split_given, self.side = split, side

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return {"image": np.full((self.side, self.side, 3), index, np.uint8), "label": np.zeros((self.side, self.side), int)}


@pytest.fixture(autouse=True)
def registered():
    rj.register("dataset", "grey", Grey)
    yield
    del data_pipelines.DATASETS["grey"]


def test_a_plain_class_is_opened_by_name():
    source = rj.data.open("grey", split="val", side=16)
    assert (source.name, source.split, source.classes.names) == ("grey", "val", ("one", "two"))
    assert source[2]["image"].shape == (16, 16, 3) and source.data.split_given == "val"
    with pytest.raises(DataError, match="grey has no option 'source'; it knows side, split"):
        rj.data.open("grey", "/data/grey")


def test_a_folder_of_all_data_sets_is_no_source_of_one_that_takes_none():
    assert open_entry({"name": "grey"}, root="/data").name == "grey"


def test_batches_go_into_a_compiled_step_as_they_are():
    with rj.data.loader(rj.data.open("grey"), crop=32, batch_size=2, resize="none", threads=1) as batches:
        batch = next(batches)
    assert set(batch) == {"image", "label", "size", "index"}
    assert jax.jit(lambda batch: batch["image"].shape[0])(batch) == 2
    with rj.data.loader(rj.data.open("grey"), crop=32, batch_size=2, resize="none", threads=1, names=True) as batches:
        assert all(name.startswith("grey-") for name in next(batches)["name"])

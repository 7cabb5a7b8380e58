"""Every unknown name is answered with the one that was probably meant, or with none where none is near."""

import pytest

import data_pipelines
from data_pipelines import corruptions, protocols
from data_pipelines.spelling import closest, did_you_mean
from rein_jax import configuration, registry


def test_the_closest_name():
    assert closest("fogg", ("snow", "fog")) == "fog" and closest(7, ("fog",)) is None and closest("x", ()) is None
    assert did_you_mean("fogg", ("fog",)) == " Did you mean 'fog'?" and did_you_mean("brightness", ("fog",)) == ""
    assert did_you_mean("step", ("steps",), "train.{}") == " Did you mean train.steps?"


@pytest.mark.parametrize("ask, hint", [
    (lambda: data_pipelines.dataset("gta"), "Did you mean 'gtav'"), (lambda: protocols.protocol("ful"), "Did you mean 'full'"),
    (lambda: corruptions._known("fogg", 1), "Did you mean 'fog'"), (lambda: registry.load({"rein": ""}, "rain", "adapter"), "'rein'"),
    (lambda: configuration.training.settings({"step": 1}), r"Did you mean train\.steps\?"),
    (lambda: configuration.load("configs/quickstrat.py"), r"Did you mean configs/quickstart\.py\?"),
    (lambda: configuration.load("configs/quickstart.py", ["train.step=3"]), r"Did you mean 'train\.steps'\?")])
def test_who_asks_for_an_unknown_name_is_told_the_closest(ask, hint):
    with pytest.raises(ValueError, match=hint):
        ask()

"""The start of a second stage from the trainable leaves of a finished run."""

from __future__ import annotations

import numpy as np
import pytest

from rein_jax import build
from rein_jax.errors import UserError
from rein_jax.weights.modelfile import write_model

LEAVES = {"adapters/0/scale": np.float32(0.5).reshape(()), "head/classify/kernel": np.arange(6, dtype="f4").reshape(2, 3)}


def test_leaves_of_a_run_folder_or_file(tmp_path):
    write_model(tmp_path / "model.safetensors", LEAVES, {"config": {}})
    for path in (tmp_path, tmp_path / "model.safetensors"):
        found = build.start_from(str(path), LEAVES)
        assert found.keys() == LEAVES.keys() and all(np.array_equal(found[n], LEAVES[n]) for n in LEAVES)


def test_another_model_is_refused(tmp_path):
    write_model(tmp_path / "model.safetensors", LEAVES, {"config": {}})
    with pytest.raises(UserError, match="same adapter and head"):
        build.start_from(str(tmp_path), {**LEAVES, "head/classify/kernel": np.zeros((2, 4), "f4")})


def test_the_second_stage_begins_with_the_first_ones_values(tmp_path):
    """From the config down: a tiny backbone is not needed, a linear head on an abstractly small model is."""
    from ml_collections import ConfigDict

    from data_pipelines.labels import CITYSCAPES
    from rein_jax.configuration import default, set_backbone, set_head, set_method

    config = default()
    set_backbone(config, "dinov2_s", 32)
    set_method(config, "freeze")
    set_head(config, "linear")
    config.backbone.weights = "random"
    _, trainable, _ = build.skeleton_of(config, CITYSCAPES)
    kept = {name: np.full(a.shape, 0.25, "f4") for name, a in trainable.items()}
    write_model(tmp_path / "model.safetensors", kept, {"config": {}})
    config = ConfigDict({**config.to_dict(), "init_from": str(tmp_path)})
    config.trainable = ("head/",)
    _, values, _, _ = build.build_params(config, CITYSCAPES)
    assert values.keys() == kept.keys() and all(np.array_equal(values[n], kept[n]) for n in kept)

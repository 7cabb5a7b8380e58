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
    _, trainable, _ = build.abstract_params(config, CITYSCAPES)
    kept = {name: np.full(a.shape, 0.25, "f4") for name, a in trainable.items()}
    write_model(tmp_path / "model.safetensors", kept, {"config": {}})
    config = ConfigDict({**config.to_dict(), "init_from": str(tmp_path)})
    config.trainable = ("head/",)
    _, values, _, _ = build.build_params(config, CITYSCAPES)
    assert values.keys() == kept.keys() and all(np.array_equal(values[n], kept[n]) for n in kept)


def test_an_unfinished_run_has_no_model_to_begin_with(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="no model.safetensors in this folder; a run writes it at its end"):
        build.start_from(str(tmp_path), LEAVES)


def test_what_scores_a_class_is_found():
    from data_pipelines.labels import ClassInfo
    from tests.use.tiny import tiny_config

    classes = ClassInfo(("sky", "water", "land"), ((0, 0, 0),) * 3)
    found = {head: build.classifier_of(tiny_config(head=head), classes) for head in ("linear", "mask2former")}
    for head, names in found.items():
        layer = "cls_embed" if head == "mask2former" else "classify"
        assert names == {f"head/{layer}/kernel", f"head/{layer}/bias"}


def test_a_run_with_other_classes_gives_all_but_its_classifier(tmp_path):
    """Other numbers of classes, and as many with other names: what scores a class begins anew, and that is said."""
    from data_pipelines.labels import CITYSCAPES, ClassInfo
    from tests.use.tiny import tiny_config, tiny_parts, write_tiny

    write_tiny(tmp_path / "model.safetensors")
    config = tiny_config()
    config.init_from = str(tmp_path)
    learnt = tiny_parts(tiny_config())[1]
    for names in (("sky", "water", "land"), tuple(f"kind {i}" for i in range(19))):
        classes = ClassInfo(names, ((0, 0, 0),) * len(names))
        classifier = build.classifier_of(config, classes)
        _, values, _, report = build.build_params(config, classes)
        taken = {name for name in values if values[name].shape == learnt[name].shape and np.array_equal(values[name], learnt[name])}
        assert values.keys() - taken == classifier
        assert all(name in report["init_from"] for name in classifier) and "other classes" in report["init_from"]
    _, values, _, report = build.build_params(config, CITYSCAPES)
    assert all(np.array_equal(values[name], learnt[name]) for name in values) and report["init_from"] == str(tmp_path)

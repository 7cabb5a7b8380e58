"""What a run writes as its model can be loaded again whatever was trained."""

from types import SimpleNamespace

import numpy as np
import pytest

from data_pipelines.labels import CITYSCAPES
from rein_jax import build
from rein_jax.training.artifacts import ArtifactWriter
from tests.use.tiny import tiny_config, tiny_parts


@pytest.mark.parametrize("trainable", [["adapters/"], ["adapters/", "head/"]])
def test_a_frozen_head_is_written_too(tmp_path, trainable):
    """It was drawn, so no other file holds it."""
    config = tiny_config("lora")
    config.trainable = tuple(trainable)
    module_def, moved, frozen = tiny_parts(config)
    components = SimpleNamespace(module_def=module_def, classes=CITYSCAPES, preprocessing={})
    meta = {"config": config.to_dict(), "classes": list(CITYSCAPES.names), "weights": {"name": "dinov2_tiny", "source": "random"}}
    sharded = SimpleNamespace(state=SimpleNamespace(ema=None, trainable=moved), frozen=frozen)
    ArtifactWriter(tmp_path, components, meta, {}, None, None)._write_model("model.safetensors", sharded, 1, {})
    _, values, _ = build.load_parts(tmp_path / "model.safetensors")
    for name, array in {**moved, **frozen}.items():
        np.testing.assert_array_equal(values[name], array, err_msg=name)

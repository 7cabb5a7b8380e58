"""Files of the version before config keys got today's names: a model file, and a run stopped at step 5 of 8.

tests/fixtures/written_before: model.safetensors (tiny DINOv2, Rein, Mask2Former) and predicted.npz, what that version predicted with it;
run.zip and finished.safetensors, the model with which that version ended the same run.
"""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

import rein_jax
from data_pipelines import open_source
from rein_jax import configuration
from rein_jax.configuration.renamed import RENAMED, current
from rein_jax.weights.modelfile import read_model
from tests.recorded import FIXTURES
from tests.use import tiny  # noqa: F401  (registers the tiny backbone)

FILES = FIXTURES / "written_before"


def test_model_file_predicts_the_same():
    model = rein_jax.load(FILES / "model.safetensors")
    image = open_source("streets", split="val", style="night", length=1, size=(64, 96))[0]["image"]
    found = model.predict(image, whole=True)
    with np.load(FILES / "predicted.npz") as kept:
        expected = kept["scores"]
        assert np.abs(found.scores[None, ::4, ::4] - expected).max() < 1e-5 * np.abs(expected).max()
        assert (found.labels == kept["labels"]).mean() > 0.999


def test_run_resumes_and_ends_with_the_same_weights(tmp_path):
    from rein_jax.run import train

    with zipfile.ZipFile(FILES / "run.zip") as file:
        file.extractall(tmp_path / "run")
    run = train(configuration.load(str(tmp_path / "run/config.json")), tmp_path / "run")
    assert run.results["steps"] == 8 and run.config.train.steps == 8 and run.report.exists()
    ours, _ = read_model(tmp_path / "run/model.safetensors")
    theirs, _ = read_model(FILES / "finished.safetensors")
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert np.abs(ours[name] - array).max() < 1e-5 * max(np.abs(array).max(), 1e-3), name


def test_every_old_key_is_read_under_its_new_name(tmp_path):
    with zipfile.ZipFile(FILES / "run.zip") as file:
        old = json.loads(file.read("config.json"))
    assert old["backbone"]["taps"] == [0, 1, 2, 3] and old["adapter"]["tokens"] == 20
    config = configuration.from_json(old)
    assert config.backbone.out_indices == (0, 1, 2, 3) and config.adapter.num_tokens == 20
    assert not {name for name in RENAMED if _has(config.to_dict(), name)}
    assert current({"head": {"queries": 3, "num_queries": 5}}) == {"head": {"num_queries": 5}}


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_old_names_on_the_command_line_and_in_config_files(tmp_path, old, new):
    section, key = old.split(".")
    value = "(0, 1, 2, 3)" if key == "taps" else "7"
    base = "quickstart"
    given = configuration.load(base, [f"{old}={value}"])
    assert given[section][new.split(".")[1]] == eval(value) and key not in given[section]
    file = tmp_path / "mine.py"
    file.write_text(f"from configs import quickstart\n\n\ndef get_config():\n    config = quickstart.get_config()\n"
                    f"    config.{section} = dict(config.{section}, {key}={value})\n    del config.{section}[{new.split('.')[1]!r}]\n"
                    f"    return config\n")
    assert configuration.load(str(file))[section] == given[section]


def _has(config: dict, dotted: str) -> bool:
    section, key = dotted.split(".")
    return key in (config.get(section) or {})

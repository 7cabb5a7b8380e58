"""rein params: the paper's counts, tree by tree, without weights."""

import pytest

from data_pipelines.labels import CITYSCAPES
from rein_jax import configuration
from rein_jax.build import abstract_params
from rein_jax.cli.main import main
from rein_jax.errors import UserError


def test_the_papers_counts(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("REIN_CACHE", str(tmp_path))
    assert main(["params", "dinov2_vitl14", "mae_l"]) == 0
    text = capsys.readouterr().out
    assert "304,196,608" in text and "2,990,081" in text and "330.94M" in text and "relative positions included" in text


def test_a_config_tree_by_tree(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("REIN_CACHE", str(tmp_path))
    assert main(["params", "configs/gta_to_cbm.py:backbone=dinov2_s", "--list", "adapters/0/scale"]) == 0
    text = capsys.readouterr().out
    assert "adapters/0/scale  ()  float32  trained" in text and "684,033 = 0.68M" in text and "tokens_a" not in text


def test_a_misspelt_name(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("REIN_CACHE", str(tmp_path))
    assert main(["params", "dinov2_vitl15"]) == 2
    assert "Did you mean 'dinov2_vitl14'" in capsys.readouterr().err


def test_a_head_with_the_other_heads_loss():
    config = configuration.load("configs/folder.py", ["loss.name=pixel"])
    with pytest.raises(UserError, match="config.head.name=mask2former needs config.loss.name=mask"):
        abstract_params(config, CITYSCAPES)

"""`rein bench loader` on small files: what the result line holds; never how fast it was."""

import json

import pytest

from rein_jax.bench import loader

SMALL = ["--images", "4", "--files", "2", "--rounds", "1", "--batch", "2", "--crop", "64", "--threads", "1"]
STAGES = {"decode_image", "decode_label", "resize", "choose_crop", "flip", "photometric"}


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr(loader, "SIZE", (128, 256))


def test_result_line_without_torch():
    result = loader.main([*SMALL, "--no-torch"])
    assert json.loads(json.dumps(result)) == result
    assert set(result["kinds"]) == {"png", "jpeg"} and result["machine"]["versions"]["numpy"]
    for kind in result["kinds"].values():
        assert set(kind["stages_ms"]) == STAGES
        assert kind["rein_jax"]["images_per_core_s"] > 0 and kind["cores_for_one_h200"] > 0 and "torch" not in kind


@pytest.mark.slow
def test_worker_processes_are_measured_too():
    result = loader.main([*SMALL, "--no-torch", "--kinds", "jpeg", "--workers", "1"])
    assert result["kinds"]["jpeg"]["rein_jax"]["images_per_s"] > 0


@pytest.mark.slow
@pytest.mark.parity
def test_the_pytorch_loader_runs_on_the_same_files():
    pytest.importorskip("torch")
    result = loader.main([*SMALL, "--kinds", "png", "jpeg"])
    for kind in result["kinds"].values():
        assert kind["torch"]["images_per_core_s"] > 0 and kind["ratio_to_torch"] > 0
        assert kind["torch_with_our_transforms"]["images_per_s"] > 0

"""1 device == 8 devices, dp == fsdp, accumulation, and checkpoints between topologies, on 8 virtual CPU devices."""

import json

import pytest
from processes import run


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    code, output = run("eight.py", str(tmp_path_factory.mktemp("eight")), devices=8)
    assert code == 0, output
    return json.loads(output.splitlines()[-1])


@pytest.mark.parametrize("which", ["eight", "fsdp", "accumulated"])
def test_same_losses_and_weights_however_split(found, which):
    losses, weights = found[which]
    assert losses < 1e-6
    assert weights < 1e-6


def test_fsdp_splits_large_arrays_and_their_moments(found):
    assert found["specs"]["head/kernel"] == "P('fsdp',)"
    assert found["specs"]["backbone/blocks"].startswith("P(None, 'fsdp'")
    assert found["specs"]["head/bias"] == "P()"
    assert found["moments_follow"]


def test_with_frozen_weights_replicated_only_gradients_travel(found):
    scale = found["scale"]
    assert set(scale["collectives"]) == {"all-reduce"}
    scalars = 4 * 8  # loss, terms, counts and the request to stop
    assert scale["trainable_bytes"] <= scale["total_bytes"] <= scale["trainable_bytes"] + scalars


@pytest.mark.parametrize("topology", ["1", "4x2", "8"])
def test_checkpoint_of_8_devices_restores_anywhere(found, topology):
    assert found["checkpoints"][topology]

import pytest

from rein_jax.bench import interleaved, scaling
from rein_jax.errors import UserError


def test_cost_is_set_beside_the_work(monkeypatch):
    def run(command):  # twice the time an image at batch 64, six times at 1024, where the arithmetic is five times as much
        batch = int(next(part for part in command if "train.batch" in part).split("=")[1])
        crop = int(next(part for part in command if "image_size" in part).split("=")[1])
        seconds = batch * (1.0 if batch < 64 else 2.0) * (6.0 if crop == 1024 else 1.0)
        return {"step_seconds": seconds, "step_seconds_spread": [seconds, 1.5 * seconds],
                "flops_per_step": batch * (5e9 if crop == 1024 else 1e9),
                "temporary_bytes": 2**20, "peak_host_bytes": 2**21, "device": "cpu", "jax": "0"}

    monkeypatch.setattr(interleaved, "_run", run)
    found = scaling.main(["--batches", "8", "64", "--crop", "128", "--crops", "512", "1024", "--rounds", "2"])
    assert found["batch"] == {"seconds_per_image": 2.0, "flops_per_image": 1.0}
    assert found["crop"] == {"seconds_per_image": 6.0, "flops_per_image": 5.0}
    assert found["sizes"]["batch_8_crop_128"] == {"seconds_per_image": 1.0, "spread": [1.0, 1.5], "flops_per_image": 1e9, "temporary_mb": 1,
                                               "peak_rss_mb": 2, "device": "cpu", "jax": "0"}


def test_a_size_that_fails_is_named(monkeypatch):
    monkeypatch.setattr(interleaved, "_run", lambda command: {"failed": "out of memory"})
    with pytest.raises(UserError, match="batch_8_crop_512 stopped: out of memory"):
        scaling.main([])

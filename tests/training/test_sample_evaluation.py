"""`train.eval_images`: evaluations during training on a part of each domain, the last one on all of it."""

import json

import numpy as np
import pytest

from data_pipelines.sample import Sample
from rein_jax.configuration.training import settings
from rein_jax.errors import UserError
from tests.use.tiny import tiny_config


class Numbers:
    name, split, domain, classes, policy = "numbers", "val", "numbers", ("a",), "skip"

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return {"i": i}

    read = __getitem__

    def entry_name(self, i):
        return f"{i}.png"

    def fingerprint(self):
        return "f"


def test_a_sample_is_evenly_spaced_and_otherwise_its_source():
    part = Sample(Numbers(), 4)
    assert len(part) == 4 and [part[i]["i"] for i in range(4)] == [0, 3, 6, 9] == [part.read(i)["i"] for i in range(4)]
    assert part.entry_name(1) == "3.png" and part.policy == "skip" and part.classes == ("a",)
    assert len({part.fingerprint(), Sample(Numbers(), 5).fingerprint(), "f"}) == 3
    assert len(Sample(Numbers(), 99)) == 10


def test_settings_refuse_a_negative_number():
    with pytest.raises(UserError, match=r"train\.eval_images must be 0 or more"):
        settings({"eval_images": -1})


def test_curve_of_a_sample_and_the_end_of_everything(tmp_path, monkeypatch):
    """Also for a run that ended between a checkpoint and the evaluation of its step."""
    from rein_jax.cli.main import main
    from rein_jax.training.artifacts import ArtifactWriter
    from rein_jax.training.checkpoint import Checkpoints

    config = tiny_config("freeze", "linear", crop=32)
    config.data.crop, config.data.resize = (32, 32), "36:96"
    config.eval.domains = [{"name": "streets", "style": "fog", "split": "val", "length": 3}]
    config.train.update({"steps": 4, "batch": 2, "log_every": 1, "checkpoint_every": 2, "tensorboard": False})
    config.train.eval_every, config.train.eval_images = 2, 2
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    command = ["train", "--config", str(tmp_path / "config.json"), "--workdir", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr(ArtifactWriter, "evaluate", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        save = Checkpoints.save
        patch.setattr(Checkpoints, "save", lambda self, *what: (save(self, *what), self.wait()))  # else it may end in the next run
        assert main(command) != 0
    assert main(command) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    seen = [(row["step"], row["kind"], next(v for k, v in row.items() if k.endswith("/of"))) for row in rows if row["kind"] != "train"]
    assert seen == [(2, "sample", 2), (4, "sample", 2), (4, "eval", 3)]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["best"]["step"] == 4 and np.isfinite(results["evaluation"]["mean"]["mIoU"])
    assert "mIoU by domain, a sample of each" in (tmp_path / "run" / "report.html").read_text()

"""`rein train` on real image files, killed and resumed with other numbers of loader threads and worker processes: the same pixels."""

import json
import re
import signal

import numpy as np
import pytest
from processes import finish, start

from rein_jax.weights.modelfile import read_model
from tests.data import miniatures
from tests.use.tiny import tiny_config

STEPS = 10


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A config.json: GTAV's and Cityscapes' miniatures mixed, distorted crops, every step logged, every second one saved."""
    folder = tmp_path_factory.mktemp("data")
    made = tiny_config("rein", "linear", crop=32)
    made.data.train = [{"name": name, "source": str(miniatures.build(name, folder / name).root)} for name in ("gtav", "cityscapes")]
    made.data.weights, made.data.crop, made.data.resize = (2.0, 1.0), (32, 32), "36:96"
    made.train.update({"steps": STEPS, "batch": 3, "log_every": 1, "checkpoint_every": 2, "eval_at_end": False, "tensorboard": False})
    (folder / "config.json").write_text(json.dumps(made.to_dict()))
    return folder / "config.json"


def train(config, workdir, workers, threads, **environment):
    """(exit code, output); the output ends only when the workers of a killed process have ended too."""
    child = start("run_cli.py", "train", "--config", str(config), "--workdir", str(workdir), f"--config.data.workers={workers}",
                  f"--config.data.threads={threads}", **environment)
    return finish(child)


def losses(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows if row["kind"] == "train"]


@pytest.mark.slow  # test_a_worker_process_gives_the_same_pixels is the quick form
def test_killed_and_resumed_with_other_workers_ends_bit_equal(config, tmp_path):
    code, output = train(config, tmp_path / "straight", workers=0, threads=4)
    assert code == 0, output
    run = tmp_path / "run"
    for workers, threads, kill_at in ((2, 1, 5), (0, 1, 8)):
        code, output = train(config, run, workers, threads, KILL_AT=str(kill_at))
        assert code == -signal.SIGKILL, output
        assert losses(run)[-1][0] == kill_at and not (run / "model.safetensors").exists()
    code, output = train(config, run, workers=1, threads=2)
    assert code == 0, output
    assert 4 <= int(re.search(rf"resuming at step (\d+) of {STEPS}", output)[1]) <= 8
    assert losses(run) == losses(tmp_path / "straight") and len(losses(run)) == STEPS
    ours, theirs = (read_model(folder / "model.safetensors")[0] for folder in (run, tmp_path / "straight"))
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], name)
    assert json.loads((run / "config.json").read_text())["data"]["workers"] == 1

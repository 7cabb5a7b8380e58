"""Several real processes over loopback: the same numbers as one process, one stop for all, and another number on resume."""

import json

import numpy as np
import pytest
from processes import finish, kill, run, start

from rein_jax import distributed
from rein_jax.errors import UserError
from tests.ports import reserved

CONFIG = {"seed": 3, "train": {"steps": 8, "batch": 8, "checkpoint_every": 4, "log_every": 1, "tensorboard": False}}


def losses(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if row["kind"] == "train"}


def test_two_processes_equal_one_stop_together_and_go_on_as_one(tmp_path):
    one, two, text = tmp_path / "one", tmp_path / "two", json.dumps(CONFIG)
    code, output = run("run_train.py", str(one), text)
    assert code == 0, output
    with reserved() as port:
        children = [start("run_train.py", str(two), text, devices=2, REIN_COORDINATOR=f"127.0.0.1:{port}", REIN_PROCESSES="2",
                          REIN_PROCESS=str(i), **({"STOP_AT": "4"} if i == 1 else {})) for i in range(2)]  # only process 1 is told to stop
        try:
            ends = [finish(child) for child in children]
        finally:
            for child in children:
                if child.poll() is None:
                    kill(child)
    assert [code for code, _ in ends] == [75, 75], ends
    assert "saved at step 6" in ends[0][1] and "4 cpu device(s)" in ends[0][1]
    assert "loss" not in ends[1][1]  # only process 0 prints
    code, output = run("run_train.py", str(two), text)  # goes on as one process with one device
    assert code == 0, output
    assert "resuming at step 6 of 8" in output
    expected, found = losses(one), losses(two)
    assert expected.keys() == found.keys() == set(range(1, 9))
    np.testing.assert_allclose([found[k] for k in expected], list(expected.values()), rtol=1e-5)


def test_explicit_flags_need_all_three():
    with pytest.raises(UserError, match=r"--processes, --process missing"):
        distributed.join("host:1", environment={})
    with pytest.raises(UserError, match="--process must be from 0 to 1"):
        distributed.join("host:1", 2, 2, environment={})
    with pytest.raises(UserError, match="whole numbers"):
        distributed.join(environment={"REIN_COORDINATOR": "a:1", "REIN_PROCESSES": "two", "REIN_PROCESS": "0"})


def test_one_process_joins_nothing():
    assert distributed.join(environment={}) is False
    assert distributed.join("host:1", 1, 0, environment={}) is False
    assert distributed.join(environment={"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "TPU_WORKER_HOSTNAMES": "localhost"}) is False
    assert distributed.all_agree(True) and not distributed.all_agree(False)

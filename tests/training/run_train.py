"""`run_train.py WORKDIR CONFIG_JSON`: trains the stand-in as `rein train` would; prints a digest of the final weights.

Environment: SLOW = seconds to sleep per batch; BAD = steps with NaN images; WIDTH = width of the stand-in; RESIZE = step from
which batches have another shape; STOP_AT = step at which this process sends itself SIGTERM.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from stand_in import make_parts

from rein_jax import distributed
from rein_jax.errors import UserError
from rein_jax.training.guards import PREEMPTED, Preempted
from rein_jax.training.loop import train
from rein_jax.weights.modelfile import read_model


def build(config):
    bad = tuple(int(s) for s in os.environ.get("BAD", "").split(",") if s)
    parts = make_parts(config, bad=bad, width=int(os.environ.get("WIDTH", "8")))
    plain = parts.batches

    def batches(start: int, process: int, processes: int):
        for step, batch in enumerate(plain(start, process, processes), start):
            time.sleep(float(os.environ.get("SLOW", "0")))
            if step == int(os.environ.get("STOP_AT", "-1")):
                os.kill(os.getpid(), signal.SIGTERM)
            if 0 <= int(os.environ.get("RESIZE", "-1")) <= step:
                batch = {**batch, "image": batch["image"][:, :8], "label": batch["label"][:, :8]}
            yield batch

    parts.batches = batches
    return parts


def evaluate(parts, trainable, frozen, mesh, policy, workdir):
    """A number that depends on the weights."""
    return {"mean": {"mIoU": float(np.mean([np.abs(np.asarray(a)).mean() for a in trainable.values()]))}}


def main(workdir: Path, config: dict) -> int:
    distributed.join()
    try:
        results = train(config, workdir, build=build, evaluate=evaluate)
    except Preempted:
        return PREEMPTED
    except UserError as error:
        print(f"USER ERROR: {error}")
        return 2
    if distributed.is_main():
        arrays, _ = read_model(workdir / "model.safetensors")
        digest = hashlib.sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays))).hexdigest()
        print(json.dumps({"digest": digest, **{k: results[k] for k in ("steps", "skipped_steps")}}))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))

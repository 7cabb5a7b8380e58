"""`run_train.py WORKDIR CONFIG_JSON`: trains the stand-in as `rein train` would; prints a digest of the final weights.

Environment: BAD = steps with NaN images; WIDTH = width of the stand-in; RESIZE = step from which batches have another shape;
STOP_AT = step at whose batch this process sends itself SIGTERM; KILL_AT = step at whose batch it sends itself SIGKILL, when all
checkpoints asked for are whole; KILL_IN_SAVE = step whose checkpoint is written but for its name when it sends itself SIGKILL;
KILL_AT_FILE = number of the file operation in the workdir (opening, making, renaming or removing something) that SIGKILL comes before.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from itertools import count
from pathlib import Path

import numpy as np
from stand_in import make_components

from rein_jax import distributed
from rein_jax.errors import UserError
from rein_jax.training.checkpoint import Checkpoints
from rein_jax.training.guards import PREEMPTED, Preempted
from rein_jax.training.loop import train
from rein_jax.weights.modelfile import read_model


def number(name: str) -> int:
    """Of the environment; -1 if there is none."""
    return int(os.environ.get(name, "-1"))


def prepare_the_kill(workdir: Path) -> None:
    """What KILL_AT, KILL_IN_SAVE and KILL_AT_FILE need; Python tells an audit hook of every file operation before it happens."""
    if number("KILL_AT") >= 0:
        save = Checkpoints.save
        Checkpoints.save = lambda self, *what: (save(self, *what), self.wait())
    last = [str(workdir / "checkpoints" / os.environ["KILL_IN_SAVE"])] if number("KILL_IN_SAVE") >= 0 else []
    operations, below = count(), f"{workdir}{os.sep}"

    def watch(event, arguments):
        if event not in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"):
            return
        paths = [os.fsdecode(path) for path in arguments[:2] if isinstance(path, str | bytes | os.PathLike)]
        counted = any(path.startswith(below) for path in paths) and next(operations) == number("KILL_AT_FILE")
        if counted or event == "os.rename" and paths[1:] == last:
            os.kill(os.getpid(), signal.SIGKILL)

    if last or number("KILL_AT_FILE") >= 0:
        sys.addaudithook(watch)


def build(config):
    bad = tuple(int(s) for s in os.environ.get("BAD", "").split(",") if s)
    components = make_components(config, bad=bad, width=int(os.environ.get("WIDTH", "8")))
    plain = components.batches

    def batches(start: int, process: int, processes: int):
        for step, batch in enumerate(plain(start, process, processes), start):
            for when, what in (("STOP_AT", signal.SIGTERM), ("KILL_AT", signal.SIGKILL)):
                if step == number(when):
                    os.kill(os.getpid(), what)
            if 0 <= number("RESIZE") <= step:
                batch = {**batch, "image": batch["image"][:, :8], "label": batch["label"][:, :8]}
            yield batch

    components.batches = batches
    return components


def evaluate(components, trainable, frozen, mesh, policy, workdir):
    """A number that depends on the weights."""
    return {"mean": {"mIoU": float(np.mean([np.abs(np.asarray(a)).mean() for a in trainable.values()]))}}


def main(workdir: Path, config: dict) -> int:
    distributed.join()
    prepare_the_kill(workdir)
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

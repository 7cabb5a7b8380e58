"""Short runs of the stand-in, and what files a folder holds."""

from run_train import evaluate
from stand_in import make_components

from rein_jax.training.loop import train

CONFIG = {"seed": 0, "train": {"steps": 6, "batch": 4, "log_every": 1, "checkpoint_every": 2, "tensorboard": False}}


def go(workdir, build=make_components, config=CONFIG, **ways):
    return train(config, workdir, build=build, evaluate=evaluate, **ways)


def files(folder):
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}

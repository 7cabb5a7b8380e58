"""Synthetic sources -> Cityscapes, then 1/16 of Cityscapes (table 4 of Rein, CVPR 2024): crops of 512, batch 4.

    rein train --config configs/synthetic_to_citys.py:sources=gtav                    ... --workdir runs/g       # 66.4 mIoU
    rein train --config configs/synthetic_to_citys.py:sources=gtav+synthia            ... --workdir runs/gs      # 68.1
    rein train --config configs/synthetic_to_citys.py:sources=gtav+synthia+urbansyn   ... --workdir runs/gsu     # 78.4
    rein train --config configs/synthetic_to_citys.py:stage=2,init_from=runs/gsu      ... --workdir runs/sixteenth  # 82.5

with --config.data.root=/data, which holds gtav/, synthia/, urbansyn/, cityscapes/. Sources are joined (every image once an epoch), as in
the original. Stage 2 starts from the trainable leaves of a finished run and trains 4k iterations on every 16th training image of
Cityscapes by name, 186 images; sources=gtav+cityscapes_16 mixes them. `init_from` takes a run folder or a model.safetensors.
All other arguments: configs/_recipes.py.
"""

from configs import _recipes
from rein_jax.configuration import parse
from rein_jax.errors import UserError
from rein_jax.registry import unknown

SOURCES = {
    "gtav": {"name": "gtav", "split": "train"},
    "synthia": {"name": "synthia", "split": "train"},
    "urbansyn": {"name": "urbansyn", "split": "train"},
    "cityscapes_16": {"name": "cityscapes", "split": "train", "subset": "1/16"},
}
DEFAULT = {"1": "gtav+synthia+urbansyn", "2": "cityscapes_16"}
ARGS = {**_recipes.MODEL, "sources": "", "stage": "1", "init_from": ""}


def get_config(arg=None):
    """Arguments: sources (names joined by +), stage (1, 2), init_from (a run, for stage 2) and those of configs/_recipes.py."""
    args = parse(arg, **ARGS)
    if args["stage"] not in DEFAULT:
        raise unknown(args["stage"], DEFAULT, "stage")
    if (args["stage"] == "2") != bool(args["init_from"]):
        raise UserError("Stage 2 starts from a finished run of stage 1, and only stage 2 does: give stage=2,init_from=RUN together.")
    names = (args["sources"] or DEFAULT[args["stage"]]).split("+")
    for name in names:
        if name not in SOURCES:
            raise unknown(name, SOURCES, "source")
    start, args["init_from"] = args["init_from"], ""  # a path does not belong into the run's name
    config = _recipes.build("synthetic-to-citys", args, ARGS, crop=512)
    config.data.train = [dict(SOURCES[name]) for name in names]
    _recipes.domains(config, "cityscapes")
    if args["stage"] == "2":
        config.init_from, config.train.steps, config.train.eval_every, config.train.checkpoint_every = start, 4_000, 1_000, 1_000
        config.train.ema_start = config.train.ema_start * 4_000 // 40_000  # the same share of the steps
    return config

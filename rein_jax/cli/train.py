"""`rein train`: train a model from a config; the same command resumes."""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from typing import NoReturn

from data_pipelines.errors import DataError
from rein_jax import configuration
from rein_jax.cli import path_argument
from rein_jax.cli.main import say
from rein_jax.errors import UserError

DESCRIPTION = """Train the model of a config file in a folder. If the folder holds a run of the same config, that run continues
where its newest checkpoint left it. Any key of the config can be overridden: --config.train.steps=2000."""
EPILOG = """example: rein train --config configs/quickstart.py --workdir runs/quickstart. Exit codes: 0 finished;
2 something to correct (one sentence says what); 75 stopped by SIGTERM or SIGINT after saving:
run the same command again. --extend continues a run, even a finished one, to a higher train.steps; --restart starts from step 0 and
keeps what was there. Several processes: give --coordinator, --processes and --process to each, or run under SLURM or on a
Cloud TPU slice, where they are detected (see scripts/cuda_train.sh and scripts/tpu_vm_train.sh)."""


def parser() -> argparse.ArgumentParser:
    """The command's own options."""
    parse = argparse.ArgumentParser("rein train", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    parse.add_argument("--config", required=True, metavar="FILE[:ARG]", help="config file, packaged config or config.json")
    parse.add_argument("--workdir", required=True, type=path_argument, help="folder of the run: checkpoints, metrics, model, report")
    parse.add_argument("--no-eval", action="store_true", help="no evaluation, during training or at its end")
    parse.add_argument("--profile", metavar="FIRST:LAST", help="write a profiler trace of these steps, such as 10:15")
    parse.add_argument("--steps", type=int, help="short for --config.train.steps")
    parse.add_argument("--restart", action="store_true", help="start from step 0; existing files are kept in restarted-<n>")
    parse.add_argument("--extend", action="store_true", help="continue a run, even a finished one, to a higher train.steps")
    parse.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0")
    parse.add_argument("--processes", type=int, help="number of processes")
    parse.add_argument("--process", type=int, help="number of this process, from 0")
    return parse


def overrides_of(options: argparse.Namespace) -> list[str]:
    """Options that are short for config keys."""
    short = []
    if options.no_eval:
        short += ["train.eval_every=0", "train.eval_at_end=false"]
    if options.profile:
        short.append(f"train.profile={options.profile}")
    if options.steps is not None:
        short.append(f"train.steps={options.steps}")
    return short


def main(argv: list[str]) -> int:
    """Exit code of the command."""
    overrides, rest = configuration.split_overrides(argv)
    options = parser().parse_args(rest)
    config = configuration.load(options.config, overrides + overrides_of(options))
    from rein_jax import distributed
    from rein_jax.run import train
    from rein_jax.training.guards import PREEMPTED, Preempted

    several = distributed.join(options.coordinator, options.processes, options.process)
    try:
        train(config, options.workdir, restart=options.restart, extend=options.extend)
    except Preempted:
        return PREEMPTED
    except Exception as error:
        if several:
            _end_alone(error)
        raise
    return 0


def _end_alone(error: Exception) -> NoReturn:
    """End one of several processes for a reason of its own, at once, so that the others end too: leaving in order would wait for them."""
    if isinstance(error, UserError | DataError):
        say("train", str(error))
    else:
        time.sleep(2)  # a collective operation that failed for want of another process: `peers` says so within this time
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2 if isinstance(error, UserError | DataError) else 1)

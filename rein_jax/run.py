"""A whole run: training with evaluations and a report at its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rein_jax.build import build_all
from rein_jax.evaluation.run import evaluate_run
from rein_jax.reporting import write_report
from rein_jax.training import loop


def train(config: Mapping[str, Any], workdir: str | Path, *, restart: bool = False, extend: bool = False) -> dict[str, Any]:
    """Run `config` in the folder `workdir` to the end; a folder with checkpoints of the same config is resumed.

    restart: begin at step 0; what the folder holds is moved into its restarted-<n>. extend: go on with a run, also a finished one, to a
    higher `train.steps`; the learning rate then follows the schedule of the new length.
    Returns: what results.json holds. Raises: UserError for a mistake that the user can correct, `training.guards.Preempted` after a
    signal, when everything is saved.
    """
    return loop.train(config, workdir, build=build_all, evaluate=evaluate_run, report=write_report, restart=restart, extend=extend)

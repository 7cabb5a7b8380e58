"""A whole run: training with evaluations and a report at its end."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from data_pipelines.paths import local_path
from rein_jax.build import build_all
from rein_jax.configuration import complete, default, from_json, load
from rein_jax.errors import UserError, read_json
from rein_jax.evaluation.run import evaluate_run
from rein_jax.public.segmenter import Segmenter
from rein_jax.reporting import write_report
from rein_jax.training import loop
from rein_jax.training.workdir import CONFIG


class Run:
    """A finished run in its folder.

    Args:
        workdir: the folder that `train`, or `rein train`, wrote.
        results: what its results.json holds, where the caller knows.

    Raises:
        UserError: the folder holds no finished run.

    Example:
        run = rj.Run("runs/mine")
        run.results["evaluation"]["mean"]["mIoU"], run.model.predict("street.jpg")
    """

    def __init__(self, workdir: str | Path, results: Mapping[str, Any] | None = None):
        self.workdir = local_path(workdir)
        file = self.workdir / "results.json"
        if results is None and not file.exists():
            raise UserError(f"{self.workdir} holds no finished run: no results.json; name a run's folder, or train to the end there.")
        # Of several processes only the first has written the file for certain.
        self._results = dict(results) if results is not None else read_json(file, "run the training again to the end")

    @property
    def results(self) -> dict[str, Any]:
        """What results.json holds: "steps", "evaluation" with the numbers of every domain, "compile_seconds", "weights" and the like."""
        return self._results

    @property
    def config(self) -> ConfigDict:
        """The run's config."""
        return from_json(read_json(self.workdir / CONFIG, "restore it"))

    @cached_property
    def model(self) -> Segmenter:
        """The trained model, loaded when it is first asked for."""
        return Segmenter.from_pretrained(self.workdir)

    @property
    def report(self) -> Path | None:
        """The page of the run, report.html; None for a run that did not evaluate itself."""
        path = self.workdir / "report.html"
        return path if path.exists() else None

    def __repr__(self) -> str:
        return f"<Run {self.workdir}: {self.results['steps']} steps>"


def train(config: ConfigDict | Mapping[str, Any] | str | os.PathLike, workdir: str | Path, *, restart: bool = False,
          extend: bool = False) -> Run:
    """Train as `rein train` does, to the end; a folder with checkpoints of the same config is resumed.

    Args:
        config: of `rj.config`, a plain dict of what differs from the defaults, or a config's name or file. It may hold Python objects in
            place of names: a data source in `data.train` or `eval.domains`, an optax transformation as `optim.name`, a loss as `loss.name`,
            a class as `backbone.name`, `adapter.name`, `head.name` or `augment.name`. What such an object does is the caller's to keep: a
            run is resumed with it where its name, and its fingerprint or repr, are as before.
        workdir: folder of the run: checkpoints, metrics, model, report.
        restart: begin at step 0; what the folder holds is moved into its restarted-<n>.
        extend: go on with a run, also a finished one, to a higher `train.steps`; the learning rate follows the schedule of the new length.

    Returns:
        The finished run: `.results`, `.model`, `.report`.

    Raises:
        UserError: a mistake that the user can correct. `rein_jax.training.guards.Preempted`: a signal came; everything is saved.

    Example:
        run = rj.train(rj.config("quickstart", train_steps=100), "runs/x")
    """
    if isinstance(config, str | os.PathLike):
        config = load(os.fspath(config))
    elif not isinstance(config, Mapping | ConfigDict):
        raise UserError(f"rj.train was given {config!r}; give a config of rj.config, a dict, or the name or file of a config.")
    elif not isinstance(config, ConfigDict):
        config = ConfigDict(dict(config))
        complete(config, default().to_dict())
    results = loop.train(config, workdir, build=build_all, evaluate=evaluate_run, report=write_report, restart=restart, extend=extend)
    return Run(workdir, results)

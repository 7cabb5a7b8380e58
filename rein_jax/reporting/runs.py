"""What a report knows of a run: its numbers, the log of its training and its config, from wherever they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os.path import isfile  # which is false, not an error, for a path that no system takes
from pathlib import Path
from typing import Any

from data_pipelines.paths import local_path
from rein_jax.kinds import read_checked
from rein_jax.reporting import results, schema
from rein_jax.reporting.page import curves


@dataclass
class Run:
    """What a report knows of one run."""

    name: str
    found: results.Results
    metrics: list[dict[str, Any]]
    config: Mapping[str, Any]


def open_run(run: str | Path | results.Results) -> Run:
    """A run's numbers, training curves and config, from wherever they lie."""
    found = replace(run, data=results.plain(run.data)) if isinstance(run, results.Results) else results.load_results(run)
    name = found.data["model"]["name"]
    homes = [folder for folder in (found.folder, found.folder and found.folder.parent, _home(found.data["model"])) if folder]
    if not isinstance(run, results.Results):
        homes.insert(0, local_path(run))
    metrics, config = _find(homes, "metrics.jsonl"), _find(homes, "config.json")
    stated = found.data["model"].get("config") or {}
    if config and not stated:
        stated = read_checked(config, schema.CONFIG, "restore it, or remove it to report without the config")
    return Run(name, found, curves.read(metrics) if metrics else [], stated)


def _find(homes: Sequence[Path], name: str) -> Path | None:
    """The file of a run that lies in one of these folders."""
    return next((home / name for home in homes if isfile(home / name)), None)


def distinct(runs: list[Run]) -> list[Run]:
    """Runs of the same name get a number."""
    seen: dict[str, int] = {}
    for run in runs:
        seen[run.name] = seen.get(run.name, 0) + 1
        run.name += f" ({seen[run.name]})" if seen[run.name] > 1 else ""
    return runs


def _home(model: Mapping[str, Any]) -> Path | None:
    path = Path(model["path"]) if model.get("path") else None
    return path.parent if path and isfile(path) else path


def warnings(run: Run, several: bool = False) -> list[str]:
    """What a reader must know before believing the numbers."""
    data, out = run.found.data, []
    prefix = f"{run.name}: " if several else ""
    if data["model"].get("random_weights"):
        out.append(prefix + "The model was trained from random backbone weights, not from a pretrained foundation model.")
    for name, found in data["domains"].items():
        if found["images"] < found["of"]:
            out.append(f"{prefix}{name}: these numbers are over {found['images']} of {found['of']} images; the others could not be read.")
        elif found.get("published") and found["of"] < found["published"]:
            out.append(f"{prefix}{name}: these numbers are over {found['of']} images; the published split has {found['published']}.")
        if found.get("left_out"):
            out.append(f"{prefix}{name}: {len(found['left_out'])} images of the folder were left out when the data set was opened.")
    return out

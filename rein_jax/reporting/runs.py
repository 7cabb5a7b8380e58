"""What a report knows of a run: its numbers, the log of its training and its config, from wherever they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_pipelines.paths import local_path
from rein_jax.errors import read_json
from rein_jax.reporting import results
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
    name = found.data["model"].get("name", "model")
    homes = [folder for folder in (found.folder, found.folder and found.folder.parent, _home(found.data["model"])) if folder]
    if not isinstance(run, results.Results):
        homes.insert(0, local_path(run))
    metrics = next((curves.read(home / "metrics.jsonl") for home in homes if (home / "metrics.jsonl").is_file()), [])
    config = found.data["model"].get("config") or _config(homes)
    return Run(name, found, metrics, config)


def _config(homes: Sequence[Path]) -> dict[str, Any]:
    """The config of a run that lies in one of these folders."""
    found = next((home / "config.json" for home in homes if (home / "config.json").is_file()), None)
    return {} if found is None else read_json(found, "restore it, or remove it to report without the config")


def distinct(runs: list[Run]) -> list[Run]:
    """Runs of the same name get a number."""
    seen: dict[str, int] = {}
    for run in runs:
        seen[run.name] = seen.get(run.name, 0) + 1
        run.name += f" ({seen[run.name]})" if seen[run.name] > 1 else ""
    return runs


def _home(model: Mapping[str, Any]) -> Path | None:
    path = Path(model["path"]) if model.get("path") else None
    return path.parent if path and path.is_file() else path


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

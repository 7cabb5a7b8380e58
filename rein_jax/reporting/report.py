"""report.html: everything an evaluation and its training run left behind, in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipelines.atomic import write_atomically
from data_pipelines.paths import local_path
from rein_jax.errors import UserError
from rein_jax.reporting import results
from rein_jax.reporting.page import render, sections
from rein_jax.reporting.runs import Run, distinct, open_run, warnings


def write_report(runs: str | Path | results.Results | Sequence[Any], out: str | Path | None = None, *, images: int = 0) -> Path:
    """Write report.html for one run, or for several side by side, and return its path.

    runs: run folders, folders that `rein evaluate` wrote, or Results. out: a file (default: report.html in the first
    folder). images: kept images shown at each end of a domain (0 = all that were kept).
    """
    given = [runs] if isinstance(runs, (str, Path, results.Results)) else list(runs)
    if not given:
        raise UserError("There is no run to report on; name at least one run folder.")
    opened = distinct([open_run(run) for run in given])
    path = local_path(out) if out is not None else _folder(given[0], opened[0]) / "report.html"
    path = path / "report.html" if path.is_dir() else path
    write_atomically(path, page(opened, images).encode(errors="replace"))
    return path


def _folder(given: Any, run: Run) -> Path:
    folder = run.found.folder if isinstance(given, results.Results) else local_path(given)
    if folder is None:
        raise UserError("These results were not written to a folder; say where the report shall go with out=.")
    return folder if folder.is_dir() else folder.parent


def page(runs: Sequence[Run], images: int = 0) -> str:
    """The whole document."""
    several = len(runs) > 1
    shown = [sections.comparison(runs)] if several else []
    for number, run in enumerate(runs):
        shown += sections.of_run(run, number, several, images)
    links = [section for section in shown if section.kind in ("comparison", "results")] if several else shown
    data = runs[0].found.data
    tiles = [("mean mIoU over domains", data["mean"]["mIoU"])] if len(data["domains"]) > 1 else []
    tiles += [(f"mIoU, {name}", found["mIoU"]) for name, found in data["domains"].items()]
    title, versions = " and ".join(run.name for run in runs[:3]) + (" and others" if len(runs) > 3 else ""), data["versions"]
    return render(
        "report.html", title=title, sections=shown, links=links,
        subtitle=f"{len(runs)} runs compared" if several else data["protocol"]["text"], tiles=None if several else tiles,
        warnings=[words for run in runs for words in warnings(run, several)],
        footer=f"Written by rein_jax {versions['rein_jax']} with jax {versions['jax']} on {versions['devices']}.")

"""report.html: everything an evaluation and its training run left behind, in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rein_jax.errors import UserError, read_json
from rein_jax.metrics.accumulator import write_atomically
from rein_jax.metrics.bootstrap import interval
from rein_jax.reporting import results, tables
from rein_jax.reporting.page import charts, curves, numbers
from rein_jax.reporting.page.markup import legend, note, section, tabs, tag, text
from rein_jax.reporting.page.script import JS
from rein_jax.reporting.page.shots import shots
from rein_jax.reporting.page.style import CSS


@dataclass
class Run:
    """What a report knows of one run."""

    name: str
    found: results.Results
    metrics: list[dict[str, Any]]
    config: Mapping[str, Any]


def write_report(runs: str | Path | results.Results | Sequence[Any], out: str | Path | None = None, *, images: int = 0) -> Path:
    """Write report.html for one run, or for several side by side, and return its path.

    runs: run folders, folders that `rein evaluate` wrote, or Results. out: a file (default: report.html in the first
    folder). images: kept images shown at each end of a domain (0 = all that were kept).
    """
    given = [runs] if isinstance(runs, (str, Path, results.Results)) else list(runs)
    if not given:
        raise UserError("There is no run to report on; name at least one run folder.")
    opened = distinct([open_run(run) for run in given])
    path = Path(out) if out is not None else _folder(given[0], opened[0]) / "report.html"
    path = path / "report.html" if path.is_dir() else path
    write_atomically(path, page(opened, images).encode())
    return path


def _folder(given: Any, run: Run) -> Path:
    folder = run.found.folder if isinstance(given, results.Results) else Path(given)
    if folder is None:
        raise UserError("These results were not written to a folder; say where the report shall go with out=.")
    return folder if folder.is_dir() else folder.parent


def open_run(run: str | Path | results.Results) -> Run:
    """A run's numbers, training curves and config, from wherever they lie."""
    found = replace(run, data=results.plain(run.data)) if isinstance(run, results.Results) else results.load_results(run)
    name = found.data["model"].get("name", "model")
    homes = [folder for folder in (found.folder, found.folder and found.folder.parent, _home(found.data["model"])) if folder]
    if not isinstance(run, results.Results):
        homes.insert(0, Path(run))
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


def page(runs: Sequence[Run], images: int = 0) -> str:
    """The whole document."""
    parts = _comparison(runs) if len(runs) > 1 else []
    for slug, run in enumerate(runs):
        parts += _run(run, slug, len(runs) > 1, images)
    shown = parts if len(runs) == 1 else [part for part in parts if part[1].startswith(("comparison", "results-"))]
    links = "".join(tag("a", text(title.removesuffix(": Results")), href=f"#{anchor}") for title, anchor, _ in shown)
    title = " and ".join(run.name for run in runs[:3]) + (" and others" if len(runs) > 3 else "")
    body = tag("header", _head(runs, title), tag("nav", links), class_="top")
    body += tag("main", *(part for _, _, part in parts), _foot(runs)) + tag("dialog", id="zoom")
    return ('<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{text(title)}: evaluation</title><style>{CSS}</style></head><body>{body}<script>{JS}</script></body></html>\n")


def _head(runs: Sequence[Run], title: str) -> str:
    out = [tag("h1", text(title))]
    if len(runs) == 1:
        data = runs[0].found.data
        out.append(tag("p", text(data["protocol"]["text"]), class_="sub"))
        tiles = [("mean mIoU over domains", tables.number(data["mean"]["mIoU"]))] if len(data["domains"]) > 1 else []
        tiles += [(f"mIoU, {name}", tables.number(found["mIoU"])) for name, found in data["domains"].items()]
        out.append(numbers.tiles(tiles))
    else:
        out.append(tag("p", f"{len(runs)} runs compared", class_="sub"))
    for run in runs:
        out += [tag("p", text(words), class_="warn") for words in warnings(run, len(runs) > 1)]
    return "".join(out)


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


def _run(run: Run, slug: int, several: bool, images: int) -> list[tuple[str, str, str]]:
    """(link title, anchor, markup) of the parts about one run."""
    data = run.found.data
    prefix = f"{run.name}: " if several else ""
    parts = [
        ("Results", "results", numbers.class_table(data) + note(tables.caption(data)) + numbers.copies(data)),
        ("Classes", "classes", _bars(data)),
        ("Training", "training", curves.training(run.metrics)),
        ("Images", "images", _images(run, slug, images)),
        ("Confusion", "confusion", tabs({n: _matrix(d, data["classes"]) for n, d in data["domains"].items()}, f"tabs-confusion-{slug}")),
        ("Calibration", "calibration", curves.calibration(data)),
        ("Robustness", "robustness", curves.corruptions(data)),
        ("Run", "run", _about(run)),
    ]
    return [(prefix + title, f"{anchor}-{slug}", section(prefix + title, body, anchor=f"{anchor}-{slug}"))
            for title, anchor, body in parts if body]


def _bars(data: Mapping[str, Any]) -> str:
    colours = [f"rgb({','.join(map(str, colour))})" for colour in data["palette"]]
    each = ((f"{name}, mIoU {tables.number(found['mIoU'])}", found["IoU"]) for name, found in data["domains"].items())
    return tag("div", *(tag("div", tag("h3", text(title)), charts.bars(iou, colours, unit=" %")) for title, iou in each), class_="charts")


def _matrix(found: Mapping[str, Any], names: Sequence[str]) -> str:
    return tag("div", charts.heat_map(found["confusion"], names), class_="scroll")


def _images(run: Run, slug: int, images: int) -> str:
    data, folder = run.found.data, run.found.folder
    if folder is None:
        return ""
    each = {}
    for i, (name, tally) in enumerate(run.found.tallies.items()):
        body = shots(folder / "panels" / results.safe(name), tally, data["classes"], f"shots-{slug}-{i}", images)
        if body:
            each[name] = body
    if not each:
        return ""
    colours = [f"rgb({','.join(map(str, colour))})" for colour in data["palette"]]
    slider = tag("label", "label over image", '<input type="range" min="0" max="1" step="0.05" value="1">', class_="mix")
    return (note("Ordered by the image's own mIoU. Errors in red, void in black. Press a picture to enlarge it.")
            + legend(data["classes"], colours) + slider + tabs(each, f"tabs-images-{slug}"))


def _about(run: Run) -> str:
    data = run.found.data
    model, weights = data["model"], data["model"].get("weights", {})
    stated = weights if isinstance(weights, Mapping) else {"source": weights}
    listed = [
        ("model", model.get("path", run.name)), ("identity of the parameters", model.get("identity")),
        ("parameters", f"{model['parameters']:,}" if model.get("parameters") else None), ("step", model.get("step")),
        ("computed in", model.get("computes_in")), ("backbone", stated.get("name")), ("backbone weights", stated.get("source")),
        ("adapter", (run.config.get("adapter") or {}).get("name")), ("head", (run.config.get("head") or {}).get("name")),
        *((f"{name}: images", f"{tables.counted(d)}, {d.get('dataset', '')} {d.get('split', '')}, {d.get('resolution', '')}")
          for name, d in data["domains"].items()),
        ("measured", data["created"]), *data["versions"].items(),
    ]
    skipped = {f"{name}: images not measured": found["skipped"] for name, found in data["domains"].items() if found["skipped"]}
    folds = [numbers.fold(title, value) for title, value in skipped.items()]
    return numbers.facts(listed) + "".join(folds) + (numbers.fold("Config", run.config) if run.config else "")


def _comparison(runs: Sequence[Run]) -> list[tuple[str, str, str]]:
    """Runs x domains, and each run's difference to the first with a paired bootstrap interval."""
    domains = list(dict.fromkeys(name for run in runs for name in run.found.domains))
    header = ["run", *domains, *(["mean"] if len(domains) > 1 else [])]
    values = [[*(run.found.domains.get(d, {}).get("mIoU") for d in domains), *([run.found.mean["mIoU"]] if len(domains) > 1 else [])]
              for run in runs]
    best = [(max(known, key=lambda i: values[i][j]), j + 1) for j in range(len(header) - 1)
            if (known := [i for i in range(len(runs)) if values[i][j] is not None])]
    rows = [[run.name, *map(tables.number, row)] for run, row in zip(runs, values, strict=True)]
    body = numbers.plain_table(header, rows, best)
    protocols = {run.found.data["protocol"]["text"] for run in runs}
    body += note(f"mIoU in %. Protocol: {'; '.join(sorted(protocols))}.")
    if len(protocols) > 1:
        body += tag("p", "These runs were measured by different protocols; their numbers must not be compared.", class_="warn")
    plots = {f"{run.name} minus {runs[0].name}": chart for run in runs[1:] if (chart := _differences(runs[0], run))}
    if plots:
        body += tag("div", *(tag("div", tag("h3", text(title)), chart) for title, chart in plots.items()), class_="charts")
        body += note("Paired bootstrap over images (1,000 draws, 95 % percentile interval). Grey: the interval includes zero.")
    body += _class_differences(runs)
    return [("Comparison", "comparison", section("Comparison", body, anchor="comparison"))]


def _differences(first: Run, second: Run) -> str:
    rows = []
    for name, tally in second.found.tallies.items():
        other = first.found.tallies.get(name)
        if other is None or list(other.names) != list(tally.names):
            continue
        both = other.done & tally.done
        if both.any():
            rows.append((name, interval(other.matrices[both], tally.matrices[both])))
    return charts.intervals(rows) if rows else ""


def _class_differences(runs: Sequence[Run]) -> str:
    """IoU per class of all runs, averaged over the domains they share."""
    shared = [d for d in runs[0].found.domains if all(d in run.found.domains for run in runs)]
    names = runs[0].found.data["classes"]
    if not shared or any(run.found.data["classes"] != names for run in runs):
        return ""
    tables_of = {}
    for domain in shared:
        rows = [[c, *(tables.number(run.found.domains[domain]["IoU"][c]) for run in runs)] for c in names]
        best = [(i, max(range(len(runs)), key=lambda r: runs[r].found.domains[domain]["IoU"][c] or 0) + 1) for i, c in enumerate(names)]
        tables_of[domain] = numbers.plain_table(["IoU", *(run.name for run in runs)], rows, best)
    return tag("h3", "By class") + tabs(tables_of, "comparison-classes")


def _foot(runs: Sequence[Run]) -> str:
    versions = runs[0].found.data["versions"]
    return tag("footer", text(f"Written by rein_jax {versions['rein_jax']} with jax {versions['jax']} on {versions['devices']}."))

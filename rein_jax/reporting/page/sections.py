"""What each section of report.html shows; templates/sections.html writes it, one macro a kind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rein_jax.metrics.bootstrap import interval
from rein_jax.reporting import results, tables
from rein_jax.reporting.page import curves
from rein_jax.reporting.page.charts import Intervals
from rein_jax.reporting.page.shots import shots
from rein_jax.reporting.runs import Run

COPIES = {"Markdown": "markdown", "CSV": "csv", "LaTeX": "latex"}


class Section(NamedTuple):
    """A titled part of the page. link: its title in the navigation; kind: the macro; found: what the macro shows."""

    title: str
    anchor: str
    link: str
    kind: str
    found: Any


def of_run(run: Run, number: int, several: bool, images: int) -> list[Section]:
    """The sections about one run, empty ones left out. number: makes ids unique; images: shown at each end of a domain (0 = all)."""
    data = run.found.data
    prefix = f"{run.name}: " if several else ""
    found = {
        "Results": _results(data),
        "Classes": {"domains": data["domains"], "palette": data["palette"]},
        "Training": curves.training(run.metrics),
        "Images": _images(run, number, images),
        "Confusion": {"domains": {name: part["confusion"] for name, part in data["domains"].items()}, "names": data["classes"],
                      "group": f"tabs-confusion-{number}"},
        "Calibration": curves.calibration(data),
        "Robustness": curves.corruptions(data),
        "Run": _about(run),
    }
    return [Section(prefix + title, f"{title.lower()}-{number}", run.name if several else title, title.lower(), part)
            for title, part in found.items() if part]


def _results(data: Mapping[str, Any]) -> dict[str, Any]:
    names = data["classes"]
    header, body = tables.rows(data)
    fixed = len(header) - len(names)
    kind = lambda row: "part" if row[0].startswith("- ") else "mean" if row[0] == "mean" and row[1] == "" else ""
    rows = [{"kind": kind(row), "fixed": [row[0].removeprefix("- "), *row[1:fixed]], "classes": row[fixed:]} for row in body]
    return {"header": header[:fixed], "names": names, "palette": data["palette"], "rows": rows, "caption": tables.caption(data),
            "copies": {title: tables.render(data, style) for title, style in COPIES.items()}}


def _images(run: Run, number: int, images: int) -> dict[str, Any]:
    data, folder = run.found.data, run.found.folder
    if folder is None:
        return {}
    each = {name: shots(folder / "panels" / results.safe(name), accumulator, data["classes"], f"shots-{number}-{i}", images)
            for i, (name, accumulator) in enumerate(run.found.accumulators.items())}
    kept = {name: part for name, part in each.items() if part}
    return kept and {"names": data["classes"], "palette": data["palette"], "domains": kept, "group": f"tabs-images-{number}"}


def _about(run: Run) -> dict[str, Any]:
    data, config = run.found.data, run.config
    model, weights = data["model"], data["model"].get("weights", {})
    stated = weights if isinstance(weights, Mapping) else {"source": weights}
    listed = [
        ("model", model.get("path", run.name)), ("identity of the parameters", model.get("identity")),
        ("parameters", f"{model['parameters']:,}" if model.get("parameters") else None), ("step", model.get("step")),
        ("computed in", model.get("computes_in")), ("backbone", _part(stated)), ("backbone weights", stated.get("source")),
        ("adapter", _part(config.get("adapter"))), ("head", _part(config.get("head"))),
        *((f"{name}: images", f"{tables.counted(d)}, {d.get('dataset', '')} {d.get('split', '')}, {d.get('resolution', '')}")
          for name, d in data["domains"].items()),
        ("measured", data["created"]), *data["versions"].items(),
    ]
    folds = {f"{name}: images not measured": found["skipped"] for name, found in data["domains"].items() if found["skipped"]}
    folds |= {"Config": config} if config else {}
    return {"facts": [(name, value) for name, value in listed if value not in (None, "", {}, [])],
            "folds": {title: json.dumps(value, indent=1, sort_keys=True) for title, value in folds.items()}}


def _part(section: Mapping[str, Any] | None) -> Any:
    """The name that a section of a config gives its part; of a class of one's own where it was defined."""
    name = (section or {}).get("name")
    return name.get("object") if isinstance(name, Mapping) else name


def comparison(runs: Sequence[Run]) -> Section:
    """Runs x domains, and each run's difference to the first with a paired bootstrap interval."""
    domains = list(dict.fromkeys(name for run in runs for name in run.found.domains))
    header = ["run", *domains, *(["mean"] if len(domains) > 1 else [])]
    values = [[*(run.found.domains.get(d, {}).get("mIoU") for d in domains), *([run.found.mean["mIoU"]] if len(domains) > 1 else [])]
              for run in runs]
    best = [(max(known, key=lambda i: values[i][j]), j + 1) for j in range(len(header) - 1)
            if (known := [i for i in range(len(runs)) if values[i][j] is not None])]
    found = {
        "header": header, "rows": [[run.name, *map(tables.number, row)] for run, row in zip(runs, values, strict=True)], "best": best,
        "protocols": sorted({run.found.data["protocol"]["text"] for run in runs}),
        "differences": {f"{run.name} minus {runs[0].name}": chart for run in runs[1:] if (chart := _differences(runs[0], run)).rows},
        "classes": _class_differences(runs),
    }
    return Section("Comparison", "comparison", "Comparison", "comparison", found)


def _differences(first: Run, second: Run) -> Intervals:
    if first.found.data["classes"] != second.found.data["classes"]:
        return Intervals([])  # a mean over other classes is another number
    rows = []
    for name, accumulator in second.found.accumulators.items():
        other = first.found.accumulators.get(name)
        if other is None or list(other.names) != list(accumulator.names):
            continue
        both = other.done & accumulator.done
        if both.any():
            rows.append((name, interval(other.matrices[both], accumulator.matrices[both])))
    return Intervals(rows)


def _class_differences(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """By domain that all runs share: a table of IoU per class, one column per run."""
    shared = [d for d in runs[0].found.domains if all(d in run.found.domains for run in runs)]
    names = runs[0].found.data["classes"]
    if any(run.found.data["classes"] != names for run in runs):
        return {}
    found = {}
    for domain in shared:
        values = [[run.found.domains[domain]["IoU"][name] for run in runs] for name in names]
        best = [(i, max(range(len(runs)), key=lambda r: row[r] or 0) + 1) for i, row in enumerate(values)]
        found[domain] = {"header": ["IoU", *(run.name for run in runs)], "best": best,
                         "rows": [[name, *map(tables.number, row)] for name, row in zip(names, values, strict=True)]}
    return found

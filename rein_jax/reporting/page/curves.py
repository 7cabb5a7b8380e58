"""What the charts of training, calibration and robustness show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rein_jax.kinds import TEXT, check, printable
from rein_jax.reporting import robustness, schema
from rein_jax.reporting.page import series
from rein_jax.reporting.page.charts import Line, Lines
from rein_jax.reporting.tables import number

FIX = "fix the line, or remove the file to report without its curves"
MOST = 600  # points of a curve; longer ones are thinned


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; those that a killed run left unfinished are passed over, a UserError names a value of another kind."""
    rows = []
    for i, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            row = printable(json.loads(line))
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and "step" in row:
            drawn = {key: schema.DRAWN for key in row if key.rpartition("/")[2] in ("step", "loss", "lr", "mIoU")}
            check(f"{path}, line {i}", row, {**drawn, "kind?": TEXT}, FIX)
            rows.append(row)
    return [row for row in rows if row["step"] is not None]


def points(rows: Sequence[Mapping[str, Any]], key: str, kind: str) -> list[tuple[float, float]]:
    """(step, value) of a number: {"kind": "train", "loss": ...} or {"train/loss": ...}; of a domain {"domains/fog/mIoU": ...} too."""
    found = []
    for row in rows:
        places = (f"{kind}/{key}", *((key, f"domains/{key}") if row.get("kind", kind) == kind else ()))
        value = next((row[place] for place in places if place in row), None)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            found.append((float(row["step"]), float(value)))
    return found


def thin(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MOST points, the last one kept."""
    step = max(1, -(-len(curve) // MOST))
    return [*curve[::step], *([curve[-1]] if (len(curve) - 1) % step else [])] if curve else []


def smooth(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Moving average over a twentieth of the curve."""
    half = max(1, len(curve) // 40)
    values = [value for _, value in curve]
    out = []
    for i, (step, _) in enumerate(curve):
        window = values[max(0, i - half) : i + half + 1]
        out.append((step, sum(window) / len(window)))
    return out


def training(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, Lines, Sequence[str]]]:
    """(title, chart, names of the legend) of loss, learning rate and mIoU by domain over steps; none without a log."""
    loss, rate = thin(points(rows, "loss", "train")), thin(points(rows, "lr", "train"))
    long = len(loss) > 40
    curves = [Line(loss, series(0), "loss", faint=long), *([Line(smooth(loss), series(0), "loss, smoothed")] if long else [])]
    domains = evaluated(rows)
    kind = "sample" if any(row.get("kind") == "sample" for row in rows) else "eval"  # config.train.eval_images
    measured = [points(rows, f"{domain}/mIoU", kind) for domain in domains]
    lines = [Line(curve, series(i), name, marks=True) for i, (name, curve) in enumerate(zip(domains, measured, strict=True))]
    found = [("Loss", Lines(curves, "step", "loss"), ()),
             ("Learning rate", Lines([Line(rate, series(1), "learning rate")], "step", "learning rate"), ())]
    if any(len(curve) > 1 for curve in measured):
        found.append(("mIoU by domain" + (", a sample of each" if kind == "sample" else ""), Lines(lines, "step", "mIoU"), domains))
    return [part for part in found if part[1].curves]


def evaluated(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Domains with an mIoU in the log, in order of appearance."""
    keys = dict.fromkeys(key for row in rows for key in row if key.endswith("/mIoU") and not key.endswith("/exact/mIoU"))
    names = dict.fromkeys(key.removeprefix("eval/").removeprefix("domains/").removesuffix("/mIoU") for key in keys)
    return [name for name in names if name != "mean" and "/conditions/" not in name]


def calibration(data: Mapping[str, Any]) -> dict[str, Any]:
    """Reliability curves of all domains, and where their pixels are; {} if it was not measured."""
    measured = {name: found["calibration"] for name, found in data["domains"].items() if "calibration" in found}
    if not measured:
        return {}
    lines, shares = [], []
    for i, (name, found) in enumerate(measured.items()):
        pairs = [(c, a) for c, a in zip(found["confidence"], found["accuracy"], strict=True) if c is not None]
        lines.append(Line(pairs, series(i), name, marks=True))
        total, bins = sum(found["pixels"]) or 1, len(found["pixels"])
        shares.append(Line([((k + 0.5) / bins, 100 * n / total) for k, n in enumerate(found["pixels"])], series(i), name))
    return {"names": [f"{name}: ECE {100 * found['ece']:.2f} %" for name, found in measured.items()],
            "curves": Lines(lines, "confidence", "accuracy", x_range=(0, 1), y_range=(0, 1), diagonal=True),
            "shares": Lines(shares, "confidence", "share of pixels, %", x_range=(0, 1))}


def corruptions(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By domain: mIoU over severity for each corruption, family by family, and the table; {} if no corruptions were measured."""
    parts = {}
    for base, found in data.get("robustness", {}).items():
        header, body = robustness.rows(found)
        words = (f"Mean over all corruptions {number(found['mean'])}, that is {number(found['retained'])} % of the clean "
                 f"{number(found['clean'])}; with noise at severities 1 to 3 only: {number(found['noise_3'])}.")
        if "reference" in found:
            words += f" Against the reference: CD {number(found['reference']['CD'])} %, rCD {number(found['reference']['rCD'])} %."
        parts[base] = {"words": words, "plots": {family: _family(found, family) for family in found["families"]}, "header": header,
                       "rows": [[cell if isinstance(cell, str) else "" if cell is None else number(cell) for cell in row] for row in body]}
    return parts


def _family(found: Mapping[str, Any], family: str) -> Lines:
    chosen = {name.replace("_", " "): part for name, part in found["corruptions"].items() if part["family"] == family}
    each = [(name, [(0, found["clean"]), *((int(s), v) for s, v in part["mIoU"].items())]) for name, part in chosen.items()]
    lines = [Line([(s, v) for s, v in curve if v is not None], series(i), name, marks=True) for i, (name, curve) in enumerate(each)]
    return Lines(lines, "severity (0 = clean)", "mIoU", y_range=(0, max(20.0, 1.05 * (found["clean"] or 0))), height=220)

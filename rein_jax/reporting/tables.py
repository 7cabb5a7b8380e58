"""The table of an evaluation for the terminal, Markdown, CSV and LaTeX: one row per domain, one column per number."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rein_jax.registry import unknown
from rein_jax.reporting import robustness

FORMULA = ("=", "+", "-", "@")  # with which a formula of a spreadsheet begins
TEX = {**{c: "\\" + c for c in "&%$#_{}"}, "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def rows(data: Mapping[str, Any], indented: bool = True) -> tuple[list[str], list[list[str]]]:
    """(header, rows): domains, their conditions below them ("- fog", or "acdc/fog"), and the mean over several domains."""
    classes = list(data["classes"])
    header = ["domain", "images", "mIoU", "mAcc", "aAcc", *_extra(data), *classes]
    body = []
    for name, found in data["domains"].items():
        body.append(_row(name, counted(found), found, data, classes))
        for c, part in found.get("conditions", {}).items():
            body.append(_row(f"- {c}" if indented else f"{name}/{c}", str(part["images"]), part, data, classes))
    if len(data["domains"]) > 1:
        mean = data["mean"]
        body.append(["mean", "", *(number(mean[key]) for key in ("mIoU", "mAcc", "aAcc")), *[""] * (len(header) - 5)])
    return header, body


def _extra(data: Mapping[str, Any]) -> list[str]:
    domains = data["domains"].values()
    return [title for title, key in (("bIoU", "boundary"), ("ECE", "calibration")) if any(key in d for d in domains)]


def _row(name: str, images: str, found: Mapping[str, Any], data: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    extra = {"bIoU": found.get("boundary", {}).get("mIoU"), "ECE": percent_of(found.get("calibration", {}).get("ece"))}
    return [name, images, *(number(found[key]) for key in ("mIoU", "mAcc", "aAcc")),
            *(number(extra[title]) for title in _extra(data)), *(number(found["IoU"].get(c)) for c in classes)]


def percent_of(value: float | None) -> float | None:
    """A fraction as percent."""
    return None if value is None else 100 * value


def counted(found: Mapping[str, Any]) -> str:
    """"500", or "498 of 500" where images are missing from the number."""
    return str(found["images"]) if found["images"] == found["of"] else f"{found['images']} of {found['of']}"


def number(value: float | None) -> str:
    """Two decimals; a dash for a number that does not exist."""
    return "-" if value is None or math.isnan(value) else f"{value:.2f}"


def caption(data: Mapping[str, Any]) -> str:
    """How the numbers were measured, in one line; it stands under every table."""
    model = data["model"]
    weights = " RANDOM BACKBONE WEIGHTS." if model.get("random_weights") else ""
    missing = sum(d["of"] - d["images"] for d in data["domains"].values())
    warning = f" Images that could not be measured and are not in these numbers: {missing}." if missing else ""
    parts = [f" {name}: {d['of']} of the {d['published']} published images." for name, d in data["domains"].items()
             if d.get("published") and d["of"] < d["published"]]
    return f"{model['name']}: {data['protocol']['text']}. IoU in %.{weights}{warning}{''.join(parts)}"


def render(data: Mapping[str, Any], style: str = "text") -> str:
    """The table in one of the STYLES; under it, where corruptions were measured, their table for each domain."""
    if style not in STYLES:
        raise unknown(style, STYLES, "table style")
    parts = [STYLES[style](data)]
    for name, found in data.get("robustness", {}).items():
        header, body = robustness.rows(found)
        body = [[cell if isinstance(cell, str) else "" if cell is None else number(cell) for cell in row] for row in body]
        parts.append(PLAIN[style](header, body, f"Robustness, {name}: mIoU in % under corruption; retained: share of the clean mIoU."))
    return "\n\n".join(parts)


def text(data: Mapping[str, Any]) -> str:
    """For the terminal: domains x summary, then classes x domains, so that lines stay short."""
    header, body = rows(data)
    cut = len(header) - len(data["classes"])
    first = columns([header[:cut], *(row[:cut] for row in body)])
    domains = [row for row in rows(data, indented=False)[1] if any(row[cut:])]
    second = columns([["IoU", *(row[0] for row in domains)],
                      *([name, *(row[cut + i] for row in domains)] for i, name in enumerate(data["classes"]))])
    return "\n".join([first, "", second, "", caption(data)])


def columns(table: Sequence[Sequence[str]]) -> str:
    """Cells in aligned columns, a line under the first row; the first column to the left, others to the right."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
             for row in table]
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(line.rstrip() for line in lines)


def markdown(data: Mapping[str, Any]) -> str:
    """A GitHub table."""
    return _markdown(*rows(data), caption(data))


def _markdown(header: Sequence[str], body: Sequence[Sequence[str]], words: str) -> str:
    line = lambda cells: "| " + " | ".join(map(plain_markdown, cells)) + " |"
    return "\n".join([line(header), line(["---", *["---:"] * (len(header) - 1)]), *map(line, body), "", plain_markdown(words)])


def plain_markdown(words: str) -> str:
    """Words in which nothing is markup."""
    return re.sub(r"[\\|<\[\]`]", r"\\\g<0>", words)


def comma_separated(data: Mapping[str, Any]) -> str:
    """CSV; how it was measured stands in the last columns of every row."""
    header, body = rows(data, indented=False)
    how = [data["model"]["name"], data["protocol"]["text"]]
    return _csv([*header, "model", "protocol"], [[*("" if cell == "-" else cell for cell in row), *how] for row in body])


def _csv(header: Sequence[str], body: Sequence[Sequence[str]], _: str = "") -> str:
    return csv_text([header, *body])


def csv_text(table: Sequence[Sequence[str]]) -> str:
    """CSV; a name that a spreadsheet would take for a formula gets an apostrophe."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([f"'{cell}" if cell[:1] in FORMULA else cell for cell in row] for row in table)
    return out.getvalue().rstrip("\n")


def latex(data: Mapping[str, Any]) -> str:
    """A booktabs tabular; class names stand upright."""
    return _latex(*rows(data), caption(data), upright=len(data["classes"]))


def _latex(header: Sequence[str], body: Sequence[Sequence[str]], words: str, upright: int = 0) -> str:
    line = lambda cells: " & ".join(cells) + r" \\"
    level = len(header) - upright
    titles = [_escape(cell) if i < level else rf"\rotatebox{{90}}{{{_escape(cell)}}}" for i, cell in enumerate(header)]
    return "\n".join([
        f"% {words}", r"% needs \usepackage{booktabs,graphicx}", rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule",
        line(titles), r"\midrule", *(line(map(_escape, row)) for row in body), r"\bottomrule", r"\end{tabular}",
    ])


def _escape(cell: str) -> str:
    return "".join(TEX.get(c, c) for c in cell)


STYLES = {"text": text, "markdown": markdown, "csv": comma_separated, "latex": latex}
PLAIN = {"text": lambda header, body, words: columns([header, *body]) + f"\n\n{words}", "markdown": _markdown, "csv": _csv, "latex": _latex}

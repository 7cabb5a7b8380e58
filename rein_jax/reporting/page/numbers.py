"""The tables and tiles of report.html."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rein_jax.reporting import tables
from rein_jax.reporting.page.markup import tag, text


def heat(value: float | None) -> str | None:
    """Background of a table cell: stronger for a higher IoU."""
    if value is None:
        return None
    return f"background:color-mix(in srgb, var(--s2) {0.42 * max(0.0, min(value, 100.0)):.0f}%, transparent)"


def cell(value: float | None) -> str:
    """One number of the class table."""
    short = "-" if value is None else f"{value:.1f}"
    return tag("td", text(short), class_="heat", style=heat(value), title=tables.number(value))


def class_table(data: Mapping[str, Any]) -> str:
    """Domains x (means and classes), conditions below their domain, mean over domains last."""
    names, palette = data["classes"], data["palette"]
    header, body = tables.rows(data)
    fixed = len(header) - len(names)
    titles = [tag("th", text(title)) for title in header[:fixed]]
    titles += [tag("th", tag("span", text(name)), tag("i", style=f"background:rgb({','.join(map(str, colour))})"), class_="class")
               for name, colour in zip(names, palette, strict=True)]
    rows = []
    for row in body:
        kind = "part" if row[0].startswith("- ") else "mean" if row[0] == "mean" and row[1] == "" else None
        cells = [tag("td", text(row[0].removeprefix("- ")))]
        cells += [tag("td", text(value), class_="best" if header[i] == "mIoU" else None) for i, value in enumerate(row[1:fixed], 1)]
        cells += [cell(None if value in ("", "-") else float(value)) if value else tag("td") for value in row[fixed:]]
        rows.append(tag("tr", *cells, class_=kind))
    return tag("div", tag("table", tag("thead", tag("tr", *titles)), tag("tbody", *rows)), class_="scroll")


def plain_table(header: Sequence[str], rows: Sequence[Sequence[Any]], best: Sequence[tuple[int, int]] = ()) -> str:
    """A table of ready text; `best` are (row, column) cells in bold."""
    chosen = set(best)
    body = [tag("tr", *(tag("td", text(value), class_="best" if (i, j) in chosen else None) for j, value in enumerate(row)))
            for i, row in enumerate(rows)]
    return tag("div", tag("table", tag("thead", tag("tr", *(tag("th", text(h)) for h in header))), tag("tbody", *body)), class_="scroll")


def tiles(pairs: Sequence[tuple[str, str]]) -> str:
    """Large numbers with a small caption."""
    return tag("div", *(tag("div", tag("b", text(value)), tag("span", text(name)), class_="tile") for name, value in pairs), class_="tiles")


def facts(pairs: Sequence[tuple[str, Any]]) -> str:
    """A list of names and values; empty values are left out."""
    shown = [(name, value) for name, value in pairs if value not in (None, "", {}, [])]
    return tag("dl", *(tag("dt", text(n)) + tag("dd", text(v)) for n, v in shown), class_="facts")


def copies(data: Mapping[str, Any]) -> str:
    """The same table to copy, as Markdown, CSV and LaTeX."""
    styles = (("Markdown", "markdown"), ("CSV", "csv"), ("LaTeX", "latex"))
    return "".join(tag("details", tag("summary", f"Table as {title}"), tag("pre", text(tables.render(data, style))))
                   for title, style in styles)


def fold(title: str, value: Any) -> str:
    """A JSON value that can be unfolded."""
    return tag("details", tag("summary", text(title)), tag("pre", text(json.dumps(value, indent=1, sort_keys=True))))

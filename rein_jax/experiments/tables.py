"""The paper's tables filled from finished runs, ours beside published, and a table of their own for all other runs."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rein_jax import configuration
from rein_jax.experiments import runs as finished
from rein_jax.experiments.paper import TABLES, Row, Table
from rein_jax.experiments.runs import Run
from rein_jax.registry import unknown
from rein_jax.reporting.page import render as render_template
from rein_jax.reporting.tables import PLAIN, csv_text, plain_markdown

NOT_RUN = "not run"
EQUAL = "mean ± standard deviation over seeds where more than one ran"


@dataclass
class Sheet:
    """A table ready to be written. notes: lines of the caption; protocols: by row, for CSV."""

    title: str
    header: list[str]
    body: list[list[str]]
    notes: list[str] = field(default_factory=list)
    protocols: list[str] = field(default_factory=list)


def row_config(row: Row) -> dict[str, Any]:
    """The config of a row as plain values."""
    return configuration.load(row.config).to_dict()


def sheets(found: Sequence[Run], numbers: Sequence[int] | None = None) -> list[Sheet]:
    """Tables for the runs: those of the paper that one of them belongs to (or the given numbers), then one of the other runs."""
    keys = {row.config: finished.model_key(row_config(row)) for table in TABLES.values() for row in table.rows if row.config}
    mine = [finished.model_key(run.config) for run in found]
    placed = {n: [row for row in table.rows if row.config and keys[row.config] in mine] for n, table in TABLES.items()}
    chosen = [n for n in TABLES if placed[n]] if numbers is None else list(numbers)
    out = [fill(TABLES[n], {row.config: [r for r, key in zip(found, mine, strict=True) if key == keys[row.config]] for row in placed[n]})
           for n in chosen]
    others = [run for run, key in zip(found, mine, strict=True) if key not in keys.values()]
    return out + (comparisons(others) if numbers is None else [])


def fill(table: Table, by_config: Mapping[str, Sequence[Run]]) -> Sheet:
    """One of the paper's tables; a row with runs under several protocols has a line for each."""
    header = [*table.heads, "Trainable", *(part for column in table.columns for part in (column.title, f"{column.title} ours")), "runs"]
    sheet, letters = Sheet(f"Table {table.number}. {table.title}", header, []), iter(string.ascii_lowercase * 20)
    for row in table.rows:
        groups = finished.group(by_config.get(row.config, ())) if row.config else []
        for group in groups or [[]]:
            letter = next(letters) if group else ""
            cells = [part for column, number in zip(table.columns, row.numbers, strict=True)
                     for part in ("-" if number is None else f"{number:.1f}", _ours(row, group, column.domains))]
            sheet.body.append([*row.labels, row.trainable, *cells, letter or ("" if row.config else row.source)])
            sheet.protocols.append(finished.protocol(group) if group else "")
            if group:
                sheet.notes.append(f"{letter}: {finished.protocol(group)}{deviations(row, group[0])}")
    sheet.notes.insert(0, f"mIoU in %, left as published, right ours: {EQUAL}.")
    return sheet


def _ours(row: Row, group: Sequence[Run], domains: tuple[str, ...]) -> str:
    if not row.config:
        return "cited"
    return finished.cell(finished.spread(group, domains)) if group else NOT_RUN


def deviations(row: Row, run: Run, limit: int = 6) -> str:
    """Where a run's config leaves the published recipe, in words."""
    theirs, ours = finished.experiment(row_config(row)), finished.experiment(run.config)
    keys = [key for key in sorted(theirs.keys() | ours.keys()) if theirs.get(key) != ours.get(key) and not key.startswith("eval.domains")]
    if not keys:
        return "; the published recipe"
    shown = ", ".join(f"{key} {theirs.get(key, '(unset)')} -> {ours.get(key, '(unset)')}" for key in keys[:limit])
    return f"; differs from the published recipe in {shown}" + (f" and {len(keys) - limit} more" if len(keys) > limit else "")


def comparisons(found: Sequence[Run]) -> list[Sheet]:
    """Tables of runs that belong to no row of the paper: one for each choice of training data and test domains."""
    kinds: dict[str, list[Run]] = {}
    for run in found:
        kinds.setdefault(repr([run.config["data"]["train"], list(run.numbers)]), []).append(run)
    return [comparison(some) for some in kinds.values()]


def comparison(found: Sequence[Run]) -> Sheet:
    """One line an experiment: every domain (seen ones marked), then the mean over the domains that were not trained on."""
    config, groups = found[0].config, finished.group(found)
    domains = [name for name in found[0].numbers if "/" not in name]
    marks = finished.seen(config)
    marks = marks if len(marks) == len(domains) else [False] * len(domains)
    unseen = tuple(name for name, mark in zip(domains, marks, strict=True) if not mark) or tuple(domains)
    header = ["experiment", *(f"{name} (seen)" if mark else name for name, mark in zip(domains, marks, strict=True)), "mean unseen", "runs"]
    sheet = Sheet("Runs on " + " + ".join(_named(entry) for entry in config["data"]["train"]), header, [])
    protocols: dict[str, str] = {}
    for label, group in zip(labels(groups), groups, strict=True):
        text = finished.protocol(group)
        letter = protocols.setdefault(text, string.ascii_lowercase[len(protocols) % 26])
        cells = [finished.cell(finished.spread(group, (name,))) for name in domains]
        sheet.body.append([label, *cells, finished.cell(finished.spread(group, unseen)), letter])
        sheet.protocols.append(text)
    sheet.notes = [f"mIoU in %: {EQUAL}. Unseen: {', '.join(unseen)}.", *(f"{letter}: {text}" for text, letter in protocols.items())]
    if len({group[0].protocol for group in groups}) > 1:
        sheet.notes.append("These were tested in different ways: compare lines only where what follows \"tested\" is the same.")
    else:
        sheet.notes += best(list(zip(labels(groups), (finished.spread(group, unseen) for group in groups), map(len, groups), strict=True)))
    return sheet


def best(rows: list[tuple[str, tuple[float, float | None] | None, int]]) -> list[str]:
    """Which experiment leads over unseen domains, and whether its lead over the next is beyond the noise of the seeds."""
    ranked = sorted((row for row in rows if row[1] is not None), key=lambda row: -row[1][0])
    if len(ranked) < 2:
        return []
    (first, (a, s), n), (second, (b, t), m) = ranked[:2]
    lead = f"Highest mean over unseen domains: {first}, {a - b:.2f} above {second}"
    if s is None or t is None:
        return [f"{lead}; one seed does not say whether that is more than noise."]
    error = (s**2 / n + t**2 / m) ** 0.5
    verdict = "beyond" if a - b > 2 * error else "within"
    return [f"{lead}; the standard error of that difference is {error:.2f}, so it is {verdict} the noise of {n} and {m} seeds "
            "(two standard errors)."]


def labels(groups: Sequence[Sequence[Run]]) -> list[str]:
    """A name for each experiment: its config's name, and the keys in which experiments of one name differ."""
    names = [str(group[0].config.get("name", "")) for group in groups]
    flat = [finished.experiment(group[0].config) for group in groups]
    out = []
    for i, name in enumerate(names):
        twins = [flat[j] for j, other in enumerate(names) if other == name]
        keys = [key for key in flat[i] if any(twin.get(key) != flat[i][key] for twin in twins)]
        out.append(name + (f" ({', '.join(f'{key}={flat[i][key]}' for key in keys)})" if keys else ""))
    return out


def _named(entry: Mapping[str, Any]) -> str:
    more = [str(value) for key, value in entry.items() if key in ("style", "split", "subset", "condition") and value != "train"]
    name = entry.get("name") or entry.get("object", "data without a name").rpartition(":")[2]  # a Python object goes by its class
    return " ".join([name, *more])


def render(sheet: Sheet, style: str = "text") -> str:
    """The table as text, md, html, csv or latex."""
    if style not in STYLES:
        raise unknown(style, STYLES, "table format")
    return STYLES[style](sheet)


def _plain(style: str):
    def written(sheet: Sheet) -> str:
        title = {"markdown": f"**{plain_markdown(sheet.title)}**\n\n", "text": f"{sheet.title}\n\n", "latex": f"% {sheet.title}\n"}[style]
        lead = "\n% " if style == "latex" else "\n\n" if style == "markdown" else "\n"
        text = title + PLAIN[style](sheet.header, sheet.body, lead.join(sheet.notes))
        return text.replace("±", r"$\pm$") if style == "latex" else text

    return written


def _csv(sheet: Sheet) -> str:
    """The caption's facts stand in the last columns of every row."""
    return csv_text([[*sheet.header, "protocol", "table"],
                     *([*row, protocol, sheet.title] for row, protocol in zip(sheet.body, sheet.protocols, strict=True))])


def _html(sheet: Sheet) -> str:
    """A plain table element with a caption; style is the page's."""
    return render_template("sheet.html", sheet=sheet)


STYLES = {"text": _plain("text"), "md": _plain("markdown"), "html": _html, "csv": _csv, "latex": _plain("latex")}

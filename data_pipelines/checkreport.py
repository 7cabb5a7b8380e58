"""What `rein data check` found: as values, as text for a terminal, and as files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np

from data_pipelines.atomic import write_atomically
from data_pipelines.errors import DataError
from data_pipelines.labels import ranges


@dataclass
class SplitReport:
    """What was found in one split. `problems` make a data set unfit, `warnings` do not; both map a file to a sentence."""

    found: str
    count: int
    published: int | None
    checked: int
    fitting: int = 0  # of those that were checked
    problems: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    label_values: dict[int, int] = field(default_factory=dict)
    stored: dict[str, str] = field(default_factory=dict)  # class -> the values or colours that mean it
    pixels: dict[str, int] = field(default_factory=dict)
    images_with: dict[str, int] = field(default_factory=dict)
    void_pixels: int = 0


@dataclass
class Report:
    """Result of a check; `reasons` says why a data set is not fit (empty = fit)."""

    dataset: str
    source: str
    fit: bool
    reasons: list[str]
    absent: list[str]
    splits: dict[str, SplitReport]

    def json(self) -> str:
        """The report as JSON text."""
        return json.dumps(asdict(self), indent=1)


def write(report: Report, picture: np.ndarray | None, out: Path) -> list[Path]:
    """Writes check.json and, if there is one, sheet.png, whole; returns the paths. A full disk is a DataError, and what was there stays."""
    content = {"check.json": report.json().encode("utf-8", "backslashreplace")}
    if picture is not None:
        content["sheet.png"] = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
    try:
        for name, data in content.items():
            write_atomically(out / name, data)
    except OSError as error:
        raise DataError(f"{error.filename or out} cannot be written ({error.strerror}); free space or choose another --out.") from None
    return [out / name for name in content]


def describe(report: Report) -> str:
    """The report as text for a terminal."""
    total = sum(part.count for part in report.splits.values())
    lines = [f"{report.dataset} at {report.source}: {'fit' if report.fit else 'NOT FIT'}, {total} images"]
    for split, part in report.splits.items():
        published = "" if part.published is None else f" (published {part.published})"
        looked = "" if part.checked == part.count else f", {part.checked} checked"
        lines += ["", f"{split}: {part.count} images{published}{looked}; {part.found}"]
        lines.append("  sizes: " + ", ".join(f"{size} x {n}" for size, n in list(part.sizes.items())[:6]))
        if part.label_values:
            lines.append(f"  label values: {ranges(part.label_values)}")
        lines += _histogram(part)
        for title, entries in (("problem", part.problems), ("warning", part.warnings)):
            lines += [f"  {title}: {text}" for text in list(entries.values())[:10]]
            if len(entries) > 10:
                lines.append(f"  ... and {len(entries) - 10} more, all listed in check.json")
    if report.absent:
        lines += ["", f"missing splits: {', '.join(report.absent)}"]
    lines += ["", *report.reasons] if report.reasons else []
    return "\n".join(lines)


def _histogram(part: SplitReport) -> list[str]:
    total = sum(part.pixels.values()) + part.void_pixels
    if not total:
        return []
    wide = max(16, min(48, max(map(len, part.pixels))))
    rows = [
        f"  {_short(name, wide):<{wide}} {100 * n / total:6.2f} %  in {part.images_with[name]} images" for name, n in part.pixels.items()
    ]
    return [_first_classes(part, total), *rows, f"  {'void':<{wide}} {100 * part.void_pixels / total:6.2f} %"]


def _first_classes(part: SplitReport, total: int) -> str:
    """One line that shows at a glance a list that is shifted by a class, or reversed."""
    first = [
        f"{part.stored.get(name, '?')} = {_short(name, 48)} ({100 * n / total:.1f} %)" for name, n in list(part.pixels.items())[:3]
    ]
    more = len(part.pixels) - len(first)
    return "  first classes: " + ", ".join(first) + (f", and {more} more" if more else "")


def _short(name: str, wide: int) -> str:
    """A long name without its middle: what tells names apart often stands at the end."""
    return name if len(name) <= wide else f"{name[: wide // 2 - 1]}..{name[len(name) - (wide - wide // 2 - 1) :]}"

"""Charts as inline SVG, drawn in the colours of the style sheet so that they follow light and dark mode."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rein_jax.reporting.page.markup import series, tag, text

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One curve: points (x, y); faint ones are drawn behind, thin."""

    points: Points
    colour: str
    name: str = ""
    faint: bool = False
    marks: bool = False


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that cover [low, high]."""
    if not high > low:
        return [low]
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def label(value: float) -> str:
    """A tick's number, short."""
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        digits, _, power = f"{value:.1e}".partition("e")
        return f"{digits.removesuffix('.0')}e{int(power)}"
    if abs(value) >= 1e4:
        return f"{value / 1000:g}k"
    return f"{value:g}"


def lines(curves: Sequence[Line], *, x: str, y: str, width: int = 460, height: int = 260, x_range=None, y_range=None,
          diagonal: bool = False) -> str:
    """A line chart; x and y are the titles of the axes. Ranges default to what the points cover."""
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return ""
    left, right, top, bottom = 52, 20, 10, 38
    (x0, x1), (y0, y1) = _range(curves, 0, x_range), _range(curves, 1, y_range)
    px = lambda v: left + (v - x0) / ((x1 - x0) or 1) * (width - left - right)
    py = lambda v: height - bottom - (v - y0) / ((y1 - y0) or 1) * (height - top - bottom)
    out = []
    for value in ticks(y0, y1):
        out.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{py(value):.1f}" y2="{py(value):.1f}"/>')
        out.append(f'<text x="{left - 6}" y="{py(value) + 4:.1f}" text-anchor="end">{label(value)}</text>')
    for value in ticks(x0, x1):
        out.append(f'<text x="{px(value):.1f}" y="{height - bottom + 16}" text-anchor="middle">{label(value)}</text>')
    if diagonal:
        out.append(f'<line class="guide" x1="{px(x0):.1f}" y1="{py(y0):.1f}" x2="{px(x1):.1f}" y2="{py(y1):.1f}"/>')
    for curve in sorted(curves, key=lambda c: not c.faint):
        path = " ".join(f"{px(a):.1f},{py(min(max(b, y0), y1)):.1f}" for a, b in curve.points)
        kind = "faint" if curve.faint else "curve"
        out.append(f'<polyline class="{kind}" points="{path}" style="stroke:{curve.colour}"><title>{text(curve.name)}</title></polyline>')
        if curve.marks or len(curve.points) == 1:
            out += [f'<circle r="3.2" cx="{px(a):.1f}" cy="{py(b):.1f}" style="fill:{curve.colour}"><title>{text(curve.name)}: '
                    f'{label(a)}, {b:.4g}</title></circle>' for a, b in curve.points]
    out.append(f'<text class="axis" x="{(left + width - right) / 2}" y="{height - 4}" text-anchor="middle">{text(x)}</text>')
    middle = (top + height - bottom) / 2
    out.append(f'<text class="axis" x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{text(y)}</text>')
    return _svg(width, height, out, f"{y} over {x}")


def _range(curves: Sequence[Line], axis: int, given) -> tuple[float, float]:
    values = [point[axis] for curve in curves for point in curve.points]
    low, high = (min(values), max(values)) if given is None else given
    if low == high:
        low, high = low - 0.5, high + 0.5
    if given is None and axis == 1:
        margin = 0.05 * (high - low)
        low, high = (0.0 if low >= 0 and low < 0.3 * high else low - margin), high + margin
    return low, high


def bars(values: Mapping[str, float | None], colours: Sequence[str], *, width: int = 440, unit: str = "") -> str:
    """Horizontal bars from 0 to 100, one a name, the number at the end; None is a class that does not occur."""
    row, left, right = 20, 104, 44
    height = row * len(values) + 4
    out = []
    for i, (name, value) in enumerate(values.items()):
        y = i * row + 2
        out.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{text(name)}</text>')
        out.append(f'<rect class="track" x="{left}" y="{y + 3}" width="{width - left - right}" height="{row - 7}" rx="2"/>')
        if value is None:
            out.append(f'<text class="quiet" x="{left + 6}" y="{y + 13}">absent</text>')
            continue
        length = max(value, 0) / 100 * (width - left - right)
        out.append(f'<rect class="bar" x="{left}" y="{y + 3}" width="{length:.1f}" height="{row - 7}" rx="2" style="fill:{colours[i]}">'
                   f"<title>{text(name)} {value:.2f}{unit}</title></rect>")
        out.append(f'<text class="number" x="{width - 2}" y="{y + 13}" text-anchor="end">{value:.1f}</text>')
    return _svg(width, height, out, "bars")


def heat_map(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """A confusion matrix, each row as shares of its label; darker is more. The exact number is the cell's title."""
    cell, left, top = 26, 104, 96
    size = cell * len(names)
    out = []
    for i, (name, row) in enumerate(zip(names, matrix, strict=True)):
        total = sum(row)
        y = top + i * cell
        out.append(f'<text x="{left - 8}" y="{y + cell * 0.65:.1f}" text-anchor="end">{text(name)}</text>')
        x = left + i * cell + cell * 0.6
        out.append(f'<text x="{x:.1f}" y="{top - 8}" text-anchor="start" transform="rotate(-60 {x:.1f} {top - 8})">{text(name)}</text>')
        out.append(f'<rect class="cell-frame" x="{left}" y="{y}" width="{size}" height="{cell}"/>')
        for j, count in enumerate(row):
            if not count:
                continue
            share = count / total
            title = f"{text(name)} seen as {text(names[j])}: {100 * share:.2f} % ({count:,} pixels)"
            kind = "hit" if i == j else "miss"
            x = left + j * cell
            out.append(f'<rect class="{kind}" x="{x + 1}" y="{y + 1}" width="{cell - 2}" height="{cell - 2}" rx="3" '
                       f'style="fill-opacity:{max(share**0.5, 0.03):.2f}"><title>{title}</title></rect>')
            if share >= 0.095:
                dark = " on" if share > 0.3 else ""
                out.append(f'<text class="cell{dark}" x="{x + cell / 2}" y="{y + cell * 0.64:.1f}" text-anchor="middle">'
                           f"{100 * share:.0f}</text>")
    out.append(f'<text class="axis" x="{left + size / 2}" y="{top + size + 18}" text-anchor="middle">'
               "prediction (share of the row, %)</text>")
    return _svg(left + size + 46, top + size + 26, out, "confusion matrix, rows are labels", "matrix")


def intervals(rows: Sequence[tuple[str, dict]], *, width: int = 460) -> str:
    """Differences with their intervals, one a row: (name, {"value", "low", "high"}); the line at zero is no difference."""
    row, left, right, bottom = 30, 130, 74, 36
    height = row * len(rows) + bottom
    reach = max([abs(v[key]) for _, v in rows for key in ("low", "high", "value")] + [0.5]) * 1.1
    px = lambda v: left + (v + reach) / (2 * reach) * (width - left - right)
    out = [f'<line class="grid" x1="{px(t):.1f}" x2="{px(t):.1f}" y1="0" y2="{height - bottom}"/>'
           f'<text x="{px(t):.1f}" y="{height - bottom + 15}" text-anchor="middle">{label(t)}</text>' for t in ticks(-reach, reach, 4)]
    out.append(f'<line class="zero" x1="{px(0):.1f}" x2="{px(0):.1f}" y1="0" y2="{height - bottom}"/>')
    for i, (name, value) in enumerate(rows):
        y = i * row + row / 2
        sure = value["low"] > 0 or value["high"] < 0
        colour = "var(--quiet)" if not sure else series(2) if value["value"] > 0 else "var(--bad)"
        out.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{text(name)}</text>')
        out.append(f'<line class="whisker" x1="{px(value["low"]):.1f}" x2="{px(value["high"]):.1f}" y1="{y}" y2="{y}" '
                   f'style="stroke:{colour}"/><circle r="5" cx="{px(value["value"]):.1f}" cy="{y}" style="fill:{colour}">'
                   f'<title>{value["low"]:+.2f} to {value["high"]:+.2f}</title></circle>')
        out.append(f'<text class="number" x="{width - 2}" y="{y + 4}" text-anchor="end">{value["value"]:+.2f}</text>')
    out.append(f'<text class="axis" x="{(left + width - right) / 2}" y="{height - 3}" text-anchor="middle">'
               "difference in mIoU, points</text>")
    return _svg(width, height, out, "differences with intervals")


def _svg(width: float, height: float, parts: Sequence[str], title: str, kind: str = "chart") -> str:
    return tag("svg", f"<title>{text(title)}</title>", *parts, viewBox=f"0 0 {width:g} {height:g}", class_=kind, role="img",
               style=f"max-width:{width:g}px")

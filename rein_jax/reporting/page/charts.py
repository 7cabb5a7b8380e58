"""The geometry of the charts that templates/charts.html draws as SVG: ranges, ticks, and where a value lies on the paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Lines:
    """A line chart; x and y are the titles of the axes. Curves without points are left out, faint ones come first.

    x_range, y_range: (low, high); None = what the points cover. diagonal: draw the line from corner to corner.
    """

    curves: Sequence[Line]
    x: str
    y: str
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    height: int = 260
    diagonal: bool = False
    width = 460
    left, right, top, bottom = 52, 20, 10, 38

    def __post_init__(self):
        object.__setattr__(self, "curves", sorted((c for c in self.curves if c.points), key=lambda c: not c.faint))
        if self.curves:
            object.__setattr__(self, "x_range", _range(self.curves, 0, self.x_range))
            object.__setattr__(self, "y_range", _range(self.curves, 1, self.y_range))

    def px(self, value: float) -> str:
        """Where a value lies along x."""
        low, high = self.x_range
        return f"{self.left + (value - low) / (high - low) * (self.width - self.left - self.right):.1f}"

    def py(self, value: float) -> str:
        """Where a value lies along y; outside of the range at its edge."""
        low, high = self.y_range
        inner = self.height - self.top - self.bottom
        return f"{self.height - self.bottom - (min(max(value, low), high) - low) / (high - low) * inner:.1f}"

    def path(self, points: Points) -> str:
        """The points of a polyline."""
        return " ".join(f"{self.px(a)},{self.py(b)}" for a, b in points)


def _range(curves: Sequence[Line], axis: int, given: tuple[float, float] | None) -> tuple[float, float]:
    values = [point[axis] for curve in curves for point in curve.points]
    low, high = (min(values), max(values)) if given is None else given
    if low == high:
        low, high = low - 0.5, high + 0.5
    if given is None and axis == 1:
        margin = 0.05 * (high - low)
        low, high = (0.0 if low >= 0 and low < 0.3 * high else low - margin), high + margin
    return low, high


def shares(row: Sequence[int], label: int, names: Sequence[str]) -> list[tuple[int, float, str, str]]:
    """(column, share of the row, opacity, words) of the cells that are not empty in the row `label` of a confusion matrix; names are
    taken as they are."""
    total, name = sum(row), names[label]
    cells = ((column, count, count / total) for column, count in enumerate(row) if count)
    return [(column, share, f"{max(share**0.5, 0.03):.2f}", f"{name} seen as {names[column]}: {100 * share:.2f} % ({count:,} pixels)")
            for column, count, share in cells]


@dataclass(frozen=True)
class Intervals:
    """Differences with their intervals, one a row: (name, {"value", "low", "high"}); the line at zero is no difference."""

    rows: Sequence[tuple[str, dict]]
    width = 460
    row, left, right, bottom = 30, 130, 74, 36

    @property
    def height(self) -> int:
        """Of the whole chart."""
        return self.row * len(self.rows) + self.bottom

    @property
    def reach(self) -> float:
        """The largest value that the axis shows, on both sides of zero."""
        return max([abs(v[key]) for _, v in self.rows for key in ("low", "high", "value")] + [0.5]) * 1.1

    def px(self, value: float) -> str:
        """Where a difference lies."""
        return f"{self.left + (value + self.reach) / (2 * self.reach) * (self.width - self.left - self.right):.1f}"

    def colour(self, value: dict) -> str:
        """Grey where the interval includes zero, else green for better and red for worse."""
        return "var(--quiet)" if value["low"] <= 0 <= value["high"] else "var(--s2)" if value["value"] > 0 else "var(--bad)"

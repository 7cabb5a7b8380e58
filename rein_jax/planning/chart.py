"""Estimated times of a compiled step for people: a bar chart, and two plans side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

WIDTH = 32  # of the longest bar, in characters
WAYS = ("forward", "backward")


def chart(found: Mapping[str, Any]) -> list[str]:
    """Lines for a report of `estimate.Estimate`: totals, a bar for each part ("#" forward, "=" backward), and what has no estimate."""
    longest = max((sum(ways.values()) for ways in found["parts"].values()), default=0) or 1
    lines = [totals(found)]
    for part, ways in found["parts"].items():
        spent = [ways.get(way, 0.0) for way in WAYS]
        bar = "".join(sign * round(WIDTH * value / longest) for sign, value in zip("#=", spent, strict=True))
        lines.append(f"{part:<18}{sum(spent):8.1f} ms  {bar:<{WIDTH + 1}} {spent[0]:.1f} forward, {spent[1]:.1f} backward")
    rows = [f"{row['what']}{f' of {rows:,} rows' if (rows := row['rows']) else ''} {row['times']}x ({row['part']})"
            for row in found["without_estimate"]]
    lines.append(f"without an estimate, on top: {'; '.join(rows) or 'nothing'}")
    lines += [f"{row['loops']} loop(s) of the {row['part']} end on data: {row['turns_assumed']} turns are taken"
              for row in found["loops_that_end_on_data"]]
    return lines


def totals(found: Mapping[str, Any]) -> str:
    """The totals in a line."""
    if not found["cycles"]:
        return "the compiler gives no estimate"
    return (f"estimated {found['milliseconds']:.1f} ms: {found['images_per_second']:.2f} images/s a chip, "
            f"{100 * found['share_of_peak']:.1f} % of its peak ({found['cycles']:,} cycles at {found['clock_mhz']} MHz)")


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """A table of two plans of `plan.plan` by part of each of their steps: milliseconds before and after, and their ratio."""
    lines = []
    for step in [step for step in ("train", "evaluate") if step in before and step in after]:
        pair = [plan[step] for plan in (before, after)]
        rows = _rows([row.get("estimate") for row in pair])
        memory = [row.get("temporary_bytes") for row in pair]
        lines.append(f"{step:<18}{'before':>12}{'after':>12}{'ratio':>8}")
        lines += [f"  {name:<16}{a:>9.1f} ms{b:>9.1f} ms{_ratio(a, b):>8}" for name, a, b in rows]
        if None not in memory:
            a, b = (value / 2**30 for value in memory)
            lines.append(f"  {'temporaries':<16}{a:>8.2f} GiB{b:>8.2f} GiB{_ratio(a, b):>8}")
        lines += [f"  without an estimate, {when}: {_silent(row['estimate'])}" for when, row in zip(("before", "after"), pair, strict=True)
                  if row.get("estimate")]
    return lines


def _rows(estimates: Sequence[Mapping[str, Any] | None]) -> list[tuple[str, float, float]]:
    """(name, before, after) in milliseconds: every part that either has, the costliest first, and their sum."""
    if None in estimates:
        return []
    spent = [{part: sum(ways.values()) for part, ways in found["parts"].items()} for found in estimates]
    names = sorted(spent[0].keys() | spent[1].keys(), key=lambda name: (-max(each.get(name, 0.0) for each in spent), name))
    rows = [(name, *(each.get(name, 0.0) for each in spent)) for name in names]
    return [*rows, ("total", *(found["milliseconds"] for found in estimates))]


def _ratio(before: float, after: float) -> str:
    return f"{after / before:.2f}" if before else "-"


def _silent(found: Mapping[str, Any]) -> str:
    """The ten costliest rows that have no estimate."""
    rows = found["without_estimate"]
    named = "; ".join(f"{row['what']}{f' of {n:,}' if (n := row['rows']) else ''} x {row['times']}" for row in rows[:10])
    return (named or "nothing") + (f"; and {len(rows) - 10} more" if len(rows) > 10 else "")

"""RESULTS.md from its template: every number of the text is computed from results.json, moved.json and repeats.json.

Words that compare ("ahead in all", "level") are guarded in the template by `holds`: if other numbers come in and a sentence is no longer
true, writing the page fails and names the sentence.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import jinja2

HERE = Path(__file__).resolve().parent
TEMPLATE = "RESULTS.md.jinja"
FULL = "full, backbone lr x 0.01"  # full fine-tuning at the rate that the source's validation images chose


class Evidence:
    """What the template asks the results.

    Args:
        results: of results.json.
        unseen: run -> mean mIoU over the domains it was not trained on. fit: run -> training loss over the last fifth.
    """

    def __init__(self, results: dict[str, Any], unseen, fit):
        self.results, self._unseen, self._fit = results, unseen, fit

    def runs(self, task: str, method: str, *, steps: int = 2000, head: str = "mask2former", setup: str = "", seed: int | None = None,
             queries: str | None = None, augment: str = "none") -> list[dict[str, Any]]:
        """The runs of these settings; queries None: those that start apart, or no linked ones. None at all is an error."""
        wanted = {"task": task, "method": method, "steps": steps, "head": head, "setup": setup, "augment": augment}
        found = [run for run in self.results["runs"] if all(run[key] == value for key, value in wanted.items())
                 and (seed is None or run["seed"] == seed) and run["queries"] in (("", "spread") if queries is None else (queries,))]
        if not found:
            raise LookupError(f"results.json has no run of {wanted}, seed {seed}, queries {queries}.")
        return sorted(found, key=lambda run: run["seed"])

    def unseen(self, task: str, method: str, **settings: Any) -> list[float]:
        """Mean unseen mIoU of each seed."""
        return [self._unseen(run) for run in self.runs(task, method, **settings)]

    def fit(self, task: str, method: str, **settings: Any) -> float:
        """Training loss at the end, mean of the seeds."""
        return mean(self._fit(run) for run in self.runs(task, method, **settings))

    def domain(self, name: str, task: str, method: str, **settings: Any) -> float:
        """mIoU on one domain, mean of the seeds."""
        return mean(run["domains"][name] for run in self.runs(task, method, **settings))

    def curve(self, name: str, step: int, task: str, method: str, **settings: Any) -> float:
        """mIoU on a sample of a domain during training, mean of the seeds."""
        return mean(dict(run["curves"][name])[step] for run in self.runs(task, method, **settings))

    def kept(self, method: str, **settings: Any) -> float:
        """mIoU on CamVid over that on the source, of runs of `transfer`."""
        return mean(run["domains"]["camvid"] / run["domains"]["clear"] for run in self.runs("transfer", method, **settings))

    def against(self, other: str, task: str | None = None, *, steps: int = 2000, head: str = "mask2former", setup: str = "",
                seed: int | None = None) -> list[dict[str, Any]]:
        """Comparisons of Rein with another method on all unseen images: value, low, high (95 %), one for each task and seed."""
        wanted = {"rein_minus": other, "steps": steps, "head": head, "setup": setup}
        found = [c for c in self.results["comparisons"] if all(c[key] == value for key, value in wanted.items())
                 and (task is None or c["task"] == task) and (seed is None or c["seed"] == seed)]
        if not found:
            raise LookupError(f"results.json has no comparison of {wanted}, task {task}, seed {seed}.")
        return found


def holds(condition: bool, sentence: str) -> str:
    """Nothing, if what a sentence of the page says is true of the numbers."""
    if not condition:
        raise ValueError(f"RESULTS.md.jinja: no longer true: {sentence!r}; write the sentence anew.")
    return ""


def spread(values: list[float]) -> str:
    """[45.3, 45.7, 44.9] -> "45.3 ± 0.4"; one value without deviation."""
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def interval(comparison: dict[str, Any], sign: int = 1) -> str:
    """"6.1 (5.5 to 6.7)"; sign -1: of the other method minus Rein."""
    low, high = sorted(sign * comparison[key] for key in ("low", "high"))
    return f"{sign * comparison['value']:.1f} ({low:.1f} to {high:.1f})"


def render(results: dict[str, Any], tables: str, unseen, fit) -> str:
    """The text of RESULTS.md; tables: the Markdown of all tables."""
    stored = {name: json.loads((HERE / f"{name}.json").read_text(encoding="utf-8")) for name in ("moved", "repeats")}
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined, keep_trailing_newline=True,
                                     trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.filters.update(spread=spread, interval=interval, n=lambda x, digits=1: f"{x:.{digits}f}", mean=mean)
    evidence = Evidence(results, unseen, fit)
    return environment.get_template(TEMPLATE).render(
        e=evidence, holds=holds, full=FULL, tables=tables.strip(), mean=mean, **stored,
        unseen=evidence.unseen, against=evidence.against, domain=evidence.domain)

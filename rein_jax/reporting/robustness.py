"""Robustness to corruptions, in the manner of Cityscapes-C: mIoU by corruption and severity, families, degradation scores.

retained: mIoU under corruption as a share of the clean mIoU. degradation: what is lost of it, (clean - corrupted) / clean.
noise_3: the mean that Kamann and Rother (CVPR 2020) and SegFormer print: noise counts with severities 1 to 3 only.
Against a reference model (Kamann and Rother): CD, the summed error 1 - mIoU over that of the reference, and rCD, the summed
loss against clean over that of the reference; both in percent, below 100 is better than the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from data_pipelines.corruptions import FAMILIES
from rein_jax.errors import UserError


def family(corruption: str) -> str:
    """noise, blur, weather or digital."""
    return next((name for name, members in FAMILIES.items() if corruption in members), "other")


def summarise(clean: float, measured: Mapping[tuple[str, int], float], reference: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One domain's robustness. clean: mIoU in percent; measured: {(corruption, severity): mIoU}; reference: another model's summary."""
    names = list(dict.fromkeys(name for name, _ in measured))
    corruptions = {}
    for name in names:
        values = {severity: value for (other, severity), value in measured.items() if other == name}
        each = {str(severity): value for severity, value in sorted(values.items())}
        corruptions[name] = {"family": family(name), "mIoU": each, **_scores(values.values(), clean)}
    families = {group: _scores([v for (n, _), v in measured.items() if family(n) == group], clean)
                for group in dict.fromkeys(family(name) for name in names)}
    mild = [v for (name, severity), v in measured.items() if family(name) != "noise" or severity <= 3]
    found = {"clean": clean, "corruptions": corruptions, "families": families, **_scores(measured.values(), clean),
             "noise_3": float(np.mean(mild)) if mild else None}
    if reference is not None:
        found["reference"] = against(found, reference)
    return found


def _scores(values, clean: float) -> dict[str, float]:
    mean = float(np.mean(list(values)))
    kept = mean / clean if clean else float("nan")
    return {"mean": mean, "retained": 100 * kept, "degradation": 100 * (1 - kept)}


def against(found: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
    """CD and rCD in percent, by corruption and averaged over corruptions."""
    each = {}
    for name, ours in found["corruptions"].items():
        theirs = reference["corruptions"].get(name)
        if theirs is None or set(theirs["mIoU"]) != set(ours["mIoU"]):
            raise UserError(f"The reference was not measured under {name} at severities {', '.join(ours['mIoU'])}; "
                            "measure it the same way.")
        if any(value is None for base, part in ((found, ours), (reference, theirs)) for value in (base["clean"], *part["mIoU"].values())):
            each[name] = {"CD": None, "rCD": None}  # no class occurred: there is nothing to compare
            continue
        error, other = (sum(100 - v for v in part["mIoU"].values()) for part in (ours, theirs))
        loss, other_loss = (sum(base["clean"] - v for v in part["mIoU"].values())
                            for base, part in ((found, ours), (reference, theirs)))
        each[name] = {"CD": 100 * error / other if other else None, "rCD": 100 * loss / other_loss if other_loss else None}
    known = {key: [part[key] for part in each.values() if part[key] is not None] for key in ("CD", "rCD")}
    return {**{key: float(np.mean(values)) if values else None for key, values in known.items()}, "corruptions": each}


def rows(found: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """(header, rows) of the table: each corruption under its family, then families and all."""
    severities = sorted({s for c in found["corruptions"].values() for s in c["mIoU"]}, key=int)
    header = ["corruption", "family", *(f"severity {s}" for s in severities), "mean", "retained %"]
    body: list[list[Any]] = [["clean", "", *[None] * len(severities), found["clean"], 100.0]]
    for name, part in found["corruptions"].items():
        body.append([name.replace("_", " "), part["family"], *(part["mIoU"].get(s) for s in severities), part["mean"], part["retained"]])
    for name, part in found["families"].items():
        body.append([f"all {name}", name, *[None] * len(severities), part["mean"], part["retained"]])
    body.append(["all", "", *[None] * len(severities), found["mean"], found["retained"]])
    return header, body

"""What results.json, config.json and metrics.jsonl must hold where a report reads them: they may come from anywhere.

Every value that a page or a table shows is of its kind before it is used; keys that nothing shows are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rein_jax.errors import UserError
from rein_jax.kinds import COLOUR, FLAG, NULL, OBJECT, TEXT, either, number, whole

FIX = "run `rein evaluate` again"
COUNT = whole(0, 2**63 - 1)
REAL = either(number(-1e18, 1e18), NULL)
PERCENT = either(number(0, 100), NULL)
SHARE = either(number(0, 1), NULL)
WORDS = either(TEXT, NULL)

MEANS = {"mIoU": PERCENT, "mAcc": PERCENT, "aAcc": PERCENT}
NUMBERS = {
    **MEANS, "IoU": {"*": PERCENT}, "Acc?": {"*": PERCENT}, "exact?": MEANS, "images": COUNT, "confusion": [[COUNT]],
    "boundary?": {"mIoU": PERCENT, "IoU?": {"*": PERCENT}},
    "calibration?": {"ece": number(0, 1), "confidence": [SHARE], "accuracy": [SHARE], "pixels": [COUNT]},
}
DOMAIN = {
    **NUMBERS, "of": COUNT, "skipped": [{"image": COUNT, "why": TEXT}], "dataset?": WORDS, "split?": WORDS, "resolution?": WORDS,
    "published?": either(COUNT, NULL), "left_out?": {"*": TEXT}, "conditions?": {"*": NUMBERS},
}
DEGRADED = {"mean": REAL, "retained": REAL}
ROBUSTNESS = {
    **DEGRADED, "clean": PERCENT, "noise_3": REAL, "corruptions": {"*": {**DEGRADED, "family": TEXT, "mIoU": {"*": PERCENT}}},
    "families": {"*": DEGRADED}, "reference?": {"CD": REAL, "rCD": REAL},
}
CONFIG = {"adapter?": either(OBJECT, NULL), "head?": either(OBJECT, NULL)}  # of which a report shows the names
RESULTS = {
    "format": TEXT, "created": TEXT, "versions": {"rein_jax": TEXT, "jax": TEXT, "devices": TEXT, "*": TEXT},
    "model": {"name": TEXT, "path?": TEXT, "identity?": TEXT, "parameters?": either(COUNT, NULL), "step?": REAL,
              "computes_in?": TEXT, "random_weights?": FLAG, "weights?": either(OBJECT, TEXT, NULL), "config?": CONFIG},
    "protocol": {"text": TEXT}, "classes": [TEXT], "palette": [COLOUR], "domains": {"*": DOMAIN}, "mean": MEANS,
    "robustness?": {"*": ROBUSTNESS},
}
DRAWN = either(number(-1e100, 1e100), NULL)  # of metrics.jsonl; far from where a chart's range overflows


def consistent(file: Path, data: Mapping[str, Any]) -> None:
    """A UserError unless the parts of a results.json that is of the shape RESULTS fit together."""
    classes = data["classes"]
    fits = {
        "palette": len(data["palette"]) == len(classes) > 0,
        "classes": len(set(classes)) == len(classes),
        "domains": bool(data["domains"]),
        **{f"domains.{name}.images": found["images"] <= found["of"] for name, found in data["domains"].items()},
    }
    for name, found in data["domains"].items():
        for place, part in ((name, found), *((f"{name}.conditions.{c}", p) for c, p in found.get("conditions", {}).items())):
            curve = part.get("calibration", {"confidence": "", "accuracy": "", "pixels": ""})
            fits |= {f"domains.{place}.IoU": set(part["IoU"]) == set(classes),
                     f"domains.{place}.confusion": [len(row) for row in part["confusion"]] == [len(classes)] * len(classes),
                     f"domains.{place}.calibration": len({len(curve[key]) for key in ("confidence", "accuracy", "pixels")}) == 1}
    for name, found in data.get("robustness", {}).items():
        fits |= {f"robustness.{name}.corruptions.{c}.mIoU": all(key in tuple("12345") for key in part["mIoU"])
                 for c, part in found["corruptions"].items()}
    for place, well in fits.items():
        if not well:
            raise UserError(f"{file}: {place} does not fit the other values; {FIX}.")

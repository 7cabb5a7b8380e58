"""What an evaluation found: the content of results.json, and the per-image counts beside it."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

import rein_jax
from data_pipelines.atomic import write_atomically
from data_pipelines.paths import local_path
from rein_jax.errors import UserError
from rein_jax.kinds import check, printable, read_checked
from rein_jax.metrics import boundary, calibration, confusion
from rein_jax.metrics.accumulator import MetricAccumulator
from rein_jax.reporting import schema

FORMAT = "rein_jax/evaluation/1"
FILE = "results.json"
LONGEST = 200  # bytes of a file name, which leaves room for endings
MOST = 2**31  # bytes of a domain's counts unpacked, for a report


@dataclass
class Results:
    """Numbers of one model on one or more domains.

    data: what results.json holds: "model", "protocol", "classes", "palette", "domains" {name: summary}, "mean", "versions".
    accumulators: per-image counts by domain (also in FOLDER/images/<domain>.npz). folder: where it was written, or None.
    """

    data: dict[str, Any]
    accumulators: dict[str, MetricAccumulator] = field(default_factory=dict, repr=False)
    folder: Path | None = None

    @property
    def domains(self) -> dict[str, Any]:
        """{domain: {"mIoU", "mAcc", "aAcc", "IoU": {class: ...}, "images", "of", ...}}, in percent."""
        return self.data["domains"]

    @property
    def mean(self) -> dict[str, Any]:
        """aAcc, mIoU, mAcc averaged over domains as the original does, and unrounded under "exact"."""
        return self.data["mean"]

    def metrics(self) -> dict[str, float]:
        """Flat numbers for a log: {"<domain>/mIoU": ..., "mean/mIoU": ...}."""
        rows = {**self.domains, "mean": self.mean}
        return {f"{name}/{key}": row[key] for name, row in rows.items() for key in ("mIoU", "mAcc", "aAcc")}

    def table(self, style: str = "text") -> str:
        """The table of all numbers as "text", "markdown", "csv" or "latex"."""
        from rein_jax.reporting.tables import render

        return render(self.data, style)

    def save(self, folder: Path) -> None:
        """Write results.json into the folder, whole or not at all."""
        self.folder = local_path(folder)
        text = json.dumps(plain(self.data), indent=1, allow_nan=False) + "\n"
        write_atomically(self.folder / FILE, text.encode())


def load_results(path: str | Path, accumulators: bool = True) -> Results:
    """Results from a run's folder, or one that `rein evaluate` wrote (or its results.json); a UserError says what is missing."""
    path = local_path(path)
    file = _find(path)
    try:
        data = read_checked(file, {}, schema.FIX)
    except FileNotFoundError:
        raise UserError(f"{path} holds no {FILE}; run `rein evaluate` first.") from None
    if data.get("format") != FORMAT:
        raise UserError(f"{file} is not a result of this version of rein ({FORMAT}); {schema.FIX}.")
    check(file, data, schema.RESULTS, schema.FIX)
    schema.consistent(file, data)
    found = Results(data, {}, file.parent)
    for name in data["domains"] if accumulators else ():
        part = image_file(file.parent, name)
        if part.is_file():
            found.accumulators[name] = _accumulator(part, data["domains"][name]["of"], len(data["classes"]))
    return found


def _accumulator(file: Path, images: int, classes: int) -> MetricAccumulator:
    """The per-image counts of a domain; a UserError if they are damaged or of another number of images or classes."""
    try:
        accumulator = MetricAccumulator.from_bytes(file.read_bytes(), MOST)
        if (accumulator.images, accumulator.classes) != (images, classes):
            raise ValueError(f"it counts {accumulator.images} images and {accumulator.classes} classes, {FILE} {images} and {classes}")
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}); {schema.FIX}, or remove it to do without single images.") from None
    for name in ("names", "conditions"):
        setattr(accumulator, name, np.array(printable(getattr(accumulator, name).tolist()), object))
    return accumulator


def later_evaluations(run: Path) -> list[Path]:
    """Folders that `rein evaluate` wrote into a run's folder."""
    return sorted(file.parent for file in run.glob(f"eval/*/{FILE}"))


def _find(path: Path) -> Path:
    """results.json of an evaluation: in the folder, in a run's subfolder `evaluation`, or the only one made of the run later."""
    if not path.is_dir():
        return path
    nested = path / "evaluation" / FILE
    if nested.is_file():
        return nested
    later = later_evaluations(path)
    if len(later) > 1:
        raise UserError(f"{path} was measured in several ways; name one of the folders {', '.join(map(str, later))}.")
    return later[0] / FILE if later else path / FILE


def image_file(folder: Path, domain: str) -> Path:
    """Where a domain's per-image counts lie."""
    return folder / "images" / f"{safe(domain)}.npz"


def safe(name: str) -> str:
    """A domain's name as a file name: one that stays in its folder and is short enough for every file system."""
    plain = "".join(c if c.isalnum() or c in "-_.=" else "_" for c in name)
    if not plain.strip("."):
        return "_" * max(len(plain), 1)
    if len(plain.encode()) <= LONGEST:
        return plain
    return plain.encode()[: LONGEST - 9].decode(errors="ignore") + "-" + hashlib.sha256(name.encode(errors="replace")).hexdigest()[:8]


def summarise(accumulator: MetricAccumulator, names: tuple[str, ...], facts: Mapping[str, Any]) -> dict[str, Any]:
    """One domain's entry in results.json."""
    found = {
        "images": int(accumulator.done.sum()),
        "of": accumulator.images,
        "skipped": [{"image": int(i), "why": why} for i, why in sorted(accumulator.skipped.items())],
        **facts,
        **_numbers(accumulator, names, None),
    }
    conditions = sorted(set(accumulator.conditions[accumulator.done]) - {""})
    if conditions:
        count = lambda condition: int((accumulator.conditions == condition).sum())
        found["conditions"] = {c: {"images": count(c), **_numbers(accumulator, names, c)} for c in conditions}
    return found


def _numbers(accumulator: MetricAccumulator, names: tuple[str, ...], condition: str | None) -> dict[str, Any]:
    found = confusion.summary(accumulator.total("matrices", condition), names)
    if accumulator.boundary is not None:
        each = boundary.boundary_iou(accumulator.total("boundary", condition))
        found["boundary"] = {
            "mIoU": confusion.percent(confusion.nanmean(each)), "ratio": boundary.RATIO,
            "IoU": {name: confusion.percent(value) for name, value in zip(names, each, strict=True)},
        }
    if accumulator.calibration is not None:
        found["calibration"] = calibration.reliability(accumulator.total("calibration", condition))
    return found


def versions() -> dict[str, str]:
    """What the numbers were made with."""
    device = jax.local_devices()[0]
    return {"rein_jax": rein_jax.__version__, "jax": jax.__version__, "numpy": np.__version__, "python": platform.python_version(),
            "devices": f"{jax.device_count()} x {device.device_kind}", "processes": str(jax.process_count())}


def now() -> str:
    """UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def plain(value: Any) -> Any:
    """JSON has no NaN: it becomes null. NumPy scalars and tuples become Python's."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

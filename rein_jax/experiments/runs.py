"""Finished runs: their numbers by domain, what distinguishes them, and which of them are seeds of one experiment."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os.path import isdir, isfile  # false, not an error, for a path that no system takes
from pathlib import Path
from typing import Any

from data_pipelines.paths import local_path
from rein_jax.configuration.renamed import current
from rein_jax.errors import UserError
from rein_jax.kinds import NULL, OBJECT, TEXT, check, either, read_checked, several, whole
from rein_jax.reporting.results import later_evaluations
from rein_jax.reporting.schema import COUNT, PERCENT, REAL
from rein_jax.training.workdir import FREE, flatten

# Keys that say where data and weights lie, or which repetition this is: they do not make another experiment.
LOCAL = ("seed", "name", "data.root", "data.cache", "init_from", "backbone.weights")


OPTIONS = either(OBJECT, NULL)
EVALUATION = {  # of a results.json; a run that was not evaluated has no domains
    "domains?": {"*": {"mIoU": PERCENT, "conditions?": {"*": {"mIoU": PERCENT}}}}, "protocol?": either(TEXT, OBJECT),
    "model?": {"path?": TEXT},
}
CONFIG = {  # what the tables say of a run, and what makes two runs the same experiment
    "name?": TEXT, "seed?": either(COUNT, NULL), "train": {"steps": COUNT, "batch": COUNT}, "trainable": [TEXT], "augment": OPTIONS,
    "backbone": {"name": either(TEXT, OBJECT), "options?": OPTIONS}, "adapter": OPTIONS, "head": OBJECT,
    "data": {"train": [{"name?": TEXT, "object?": TEXT, "split?": TEXT}], "crop": several(whole(1), 2),
             "weights?": either(several(REAL), NULL)},
    "eval?": {"domains?": [OBJECT]},
}


@dataclass
class Run:
    """numbers: mIoU by domain, and by condition ("acdc/fog"). protocol: how it was measured, in words."""

    folder: Path
    config: dict[str, Any]
    numbers: dict[str, float]
    protocol: str

    @property
    def seed(self) -> Any:
        return self.config.get("seed", 0)


def find(paths: Iterable[str | Path]) -> tuple[list[Run], list[Path]]:
    """(finished runs, folders of unfinished runs) among the folders and, for a folder that is no run, those inside it.

    A run that was not measured when it ended stands for what `rein evaluate` wrote into it, one Run for each way of measuring.
    """
    runs: list[Run] = []
    unfinished: list[Path] = []
    for path in map(local_path, paths):
        if not path.exists():
            raise UserError(f"{path} does not exist; name folders of finished runs, or a folder that holds some.")
        folders = [path] if is_run(path) else sorted(p.parent for p in path.glob("*/config.json"))
        if not folders:
            raise UserError(f"{path} holds no run (no config.json in it or one level below).")
        for folder in folders:
            places = [folder] if measured(folder) else list(filter(measured, later_evaluations(folder)))
            runs += map(read, places)
            unfinished += [] if places else [folder]
    return runs, unfinished


def is_run(path: Path) -> bool:
    """True for the folder of a run, or of an evaluation of one."""
    return path.is_dir() and ((path / "config.json").exists() or (path / "results.json").exists())


def measured(folder: Path) -> bool:
    """True if the folder holds numbers: the run has finished and was evaluated."""
    return bool(folder.is_dir() and (folder / "results.json").exists() and _evaluation(folder).get("domains"))


def read(folder: Path) -> Run:
    """A finished run, or a later evaluation of one (a folder that `rein evaluate` wrote inside the run)."""
    found = _evaluation(folder)
    numbers: dict[str, float] = {}
    for name, entry in found["domains"].items():
        numbers[name] = entry["mIoU"]
        for condition, part in entry.get("conditions", {}).items():
            numbers[f"{name}/{condition}"] = part["mIoU"]
        if name.startswith("acdc_"):
            numbers[name.replace("_", "/", 1)] = entry["mIoU"]
    protocol = found.get("protocol", "")
    text = protocol.get("text", "") if isinstance(protocol, Mapping) else protocol
    return Run(folder, _config(folder, found), numbers, str(text))


def _evaluation(folder: Path) -> dict[str, Any]:
    """What is known of the measurement: the full results beside the run's summary where they exist."""
    for path in (folder / "evaluation" / "results.json", folder / "results.json"):
        if not path.exists():
            continue
        fix = "run `rein evaluate` on the run again"
        data = read_checked(path, {"evaluation?": either(OBJECT, NULL)}, fix)
        whole_file = "domains" in data
        found = data if whole_file else data.get("evaluation") or {}
        check(path, found, EVALUATION, fix, "" if whole_file else "evaluation")
        return found
    return {}


def _config(folder: Path, found: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the run: in the folder, above it, or where the evaluated model lies."""
    model = found.get("model") or {}
    places = [folder, *folder.resolve().parents[:3], *([Path(model["path"])] if model.get("path") else [])]
    for place in places:
        path = (place if isdir(place) else place.parent) / "config.json"
        if isfile(path):
            return current(read_checked(path, CONFIG, "restore it, or leave this run out"))
    raise UserError(f"{folder} has no config.json in it or above it; name the folder of the run itself.")


def experiment(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that make two runs the same experiment: all but seeds, places, and what only changes where a run runs."""
    plain = json.loads(json.dumps(config, default=list))
    flat = {key: json.dumps(value, sort_keys=True) for key, value in flatten(plain).items()}
    return {k: v for k, v in flat.items() if k not in LOCAL and (k.startswith("eval.") or not FREE.match(k))}


def model_key(config: Mapping[str, Any]) -> str:
    """What a row of a table stands for: backbone, method, head, augmentation and training data; not how long or at which size."""
    plain = json.loads(json.dumps(config, default=list))
    train = [{k: v for k, v in entry.items() if k != "source"} for entry in plain["data"]["train"]]
    head = {key: plain["head"].get(key) for key in ("name", "query_source", "neck")}
    kept = [plain["backbone"]["name"], plain["backbone"].get("options") or {}, plain["adapter"], head, plain["augment"],
            list(plain["trainable"]), train, list(plain["data"].get("weights") or ()), bool(plain.get("init_from"))]
    return json.dumps(kept, sort_keys=True)


def group(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs of one experiment under one protocol together, in order of appearance."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps([experiment(run.config), run.protocol, sorted(run.numbers)], sort_keys=True), []).append(run)
    return list(groups.values())


def mean_of(run: Run, domains: Sequence[str]) -> float | None:
    """Mean mIoU over domains; None if one was not measured."""
    values = [run.numbers.get(domain) for domain in domains]
    return None if not values or any(value is None for value in values) else sum(values) / len(values)


def spread(runs: Sequence[Run], domains: Sequence[str]) -> tuple[float, float | None] | None:
    """(mean, sample standard deviation) over runs of the mean over domains; no deviation for one run, None if not measured."""
    values = [mean_of(run, domains) for run in runs]
    if not values or any(value is None for value in values):
        return None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def cell(found: tuple[float, float | None] | None) -> str:
    """"66.40", "66.40 ± 0.21" or "-"."""
    if found is None:
        return "-"
    mean, deviation = found
    return f"{mean:.2f}" + ("" if deviation is None else f" ± {deviation:.2f}")


def protocol(runs: Sequence[Run]) -> str:
    """How a group of runs was trained and measured, in one sentence part."""
    config = runs[0].config
    train, crop = config["train"], config["data"]["crop"]
    seeds = ", ".join(str(run.seed) for run in runs)
    size = f"{crop[0]}" if crop[0] == crop[1] else f"{crop[1]}x{crop[0]}"
    return (f"tested {runs[0].protocol or 'in an unknown way'}; "
            f"trained {train['steps']} steps of {train['batch']} images, crops of {size}; seed{'s' if len(runs) > 1 else ''} {seeds}")


def seen(config: Mapping[str, Any]) -> list[bool]:
    """For each evaluation domain: was its kind trained on? The same data set with the same options, whatever the split ("day_test"
    and "day_train" are one kind, "dusk" another)."""
    def kind(entry: Mapping[str, Any]) -> str:
        left = {k: v for k, v in entry.items() if k not in ("split", "length", "label", "protocol", "source", "subset", "policy")}
        split = str(entry.get("split", "train"))
        part = split.removesuffix("train").removesuffix("test").removesuffix("val").strip("_")
        return json.dumps([left, "" if part == "all" else part], sort_keys=True)

    trained = {kind(entry) for entry in config["data"]["train"]}
    return [kind(entry) in trained for entry in config.get("eval", {}).get("domains", ())]

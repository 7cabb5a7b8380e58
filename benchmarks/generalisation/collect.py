"""Gather finished runs of configs/generalisation.py: results.json, RESULTS.md from its template (`results_page.py`), and the plots.

    python benchmarks/generalisation/collect.py runs/streets runs/camvid ...

Runs that are already in results.json stay, unless one of the same settings and seed is given again. A run of the task `transfer` is trained
as one of `streets` and counts for both.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

import results_page  # noqa: E402

from configs.generalisation import PARTS  # noqa: E402
from data_pipelines.labels import CITYSCAPES  # noqa: E402
from data_pipelines.paths import path_argument  # noqa: E402
from rein_jax.bench.machine import commit  # noqa: E402
from rein_jax.experiments import runs  # noqa: E402
from rein_jax.metrics.bootstrap import interval, mean_ious  # noqa: E402
from rein_jax.reporting.results import image_file  # noqa: E402

SOURCE = {"streets": "clear", "camvid": None, "transfer": "clear"}  # the domain that was trained on, where it is tested too
SETTINGS = ("task", "method", "augment", "head", "queries", "steps", "setup")
USUAL = ("name", "num_tokens", "query_dims", "query_init")  # options of an adapter that follow from the method and the head
# What CamVid's 11 classes hold besides the class of that name (see data_pipelines/datasets/camvid.py): 19 are measured as these.
CAMVID = {"wall": "building", "traffic light": "traffic sign", "terrain": "vegetation", "truck": "car", "bus": "car", "train": "car",
          "motorcycle": "rider", "bicycle": "rider"}
QUERIES = {("linked", "spread"): "spread", ("linked", "torch"): "official", ("learned_feat", "torch"): "learned"}


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """What tells a run from others of its task and seed: SETTINGS without the task."""
    adapter, trains = config["adapter"], list(config["trainable"])
    method = adapter["name"] if adapter["name"] != "none" else "freeze" if trains == ["head/"] else "full"
    share = config["optim"].get("backbone_lr", 1.0) * (0.1 if config["optim"]["groups"] == "full_paper" else 1)
    if method == "full" and share != 0.1:
        method = f"full, backbone lr x {share:g}"
    if method.startswith("full") and (part := _part(trains)) != "all":
        method += f", {part} only"
    if adapter["name"] != "none" and (factor := config["optim"].get("adapter_lr", 1.0)) != 1:
        method += f", adapter lr x {factor:g}"
    if (decay := config["optim"].get("layer_decay", 1.0)) != 1:
        method += f", layer decay {decay:g}, lr {config['optim']['lr']:g}"
    method += "".join(f", {key}={value}" for key, value in adapter.items() if key not in USUAL)
    linked = adapter["name"] == "rein" and config["head"]["name"] == "mask2former"
    return {"method": method, "augment": config["augment"]["name"], "head": config["head"]["name"],
            "queries": QUERIES[config["head"]["query_source"], adapter.get("query_init", "torch")] if linked else "",
            "steps": config["train"]["steps"], "setup": _setup(config)}


def records(run: runs.Run, code: str) -> list[dict[str, Any]]:
    """What the page needs of one run, once for each task it answers; code: commit that made the run."""
    config = run.config
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    train = [row for row in rows if row.get("kind") == "train"]
    common = {**settings(config), "seed": run.seed, "protocol": run.protocol,
              "trainable": json.loads((run.folder / "results.json").read_text(encoding="utf-8"))["trainable_parameters"],
              "loss": _thinned([(row["step"], row["loss"]) for row in train]), "commit": code}
    sampled = [row for row in rows if row.get("kind") == "sample"]
    found = []
    for task, domains in _tasks(config["data"]["train"][0]["name"], run).items():
        curves = {name: [[row["step"], row[f"domains/{name}/mIoU"]] for row in sampled] for name in domains if "/" not in name}
        found.append({"task": task, **common, "domains": domains, **({"curves": curves} if sampled else {})})
    return found


def _part(trains: list[str]) -> str:
    """The config argument `part` that gives these patterns; other patterns as they are."""
    return next((name for name, pattern in PARTS.items() if "backbone/" + pattern in trains), " ".join(trains[:-1]))


def _setup(config: dict[str, Any]) -> str:
    """What differs from the protocol (DINOv2-S, crops of 128, batch 4, head of width 64, all of the first streets), or ""."""
    backbone, crop, batch = config["backbone"]["name"], config["data"]["crop"][0], config["train"]["batch"]
    weights = " from random weights" if config["backbone"]["weights"] == "random" else ""
    width, source = config["head"].get("channels", 64), config["data"]["train"][0]
    edition, share = source.get("edition", 1), source.get("subset", "1")
    parts = {backbone + weights: "dinov2_vits14", f"crops of {crop}, batch {batch}": "crops of 128, batch 4",
             f"head of width {width}": "head of width 64", f"streets edition {edition}": "streets edition 1",
             f"{share} of the source": "1 of the source"}
    return ", ".join(found for found, usual in parts.items() if found != usual)


def _thinned(curve: list[tuple[int, float]]) -> list[list[float]]:
    """At most 50 points: means over as many logged losses each."""
    many = -(-len(curve) // 50)
    groups = [curve[k:k + many] for k in range(0, len(curve), many)]
    return [[group[-1][0], round(float(np.mean([value for _, value in group])), 4)] for group in groups]


def _tasks(trained: str, run: runs.Run) -> dict[str, dict[str, float]]:
    """{task: its domains} of the numbers of one run; a model of the streets' 19 classes is measured on CamVid's 11 too."""
    if trained == "camvid":
        return {"camvid": run.numbers}
    found = {"streets": {name: value for name, value in run.numbers.items() if name != "camvid"}}
    if "camvid" in run.numbers:
        merged = round(100 * float(mean_ious(_matrices(run.folder, "transfer", ["camvid"]).astype(np.int64).sum(0))), 2)
        found["transfer"] = {"clear": run.numbers["clear"], "camvid": merged, "camvid/19 classes": run.numbers["camvid"]}
    return found


def identity(entry: dict[str, Any]) -> tuple:
    return tuple(entry[key] for key in (*SETTINGS, "seed"))


def unseen(entry: dict[str, Any]) -> float:
    """Mean mIoU over the domains that were not trained on."""
    return float(np.mean([entry["domains"][name] for name in unseen_domains(entry)]))


def fit(entry: dict[str, Any]) -> float:
    """Training loss at the end: its mean over the last fifth of the run. Of one task, head and setup it is one measure for all methods."""
    values = [value for _, value in entry["loss"]]
    return float(np.mean(values[-max(1, len(values) // 5):]))


def unseen_domains(entry: dict[str, Any]) -> list[str]:
    return [name for name in entry["domains"] if name != SOURCE[entry["task"]] and "/" not in name]


def compare(folders: dict[tuple, Path], entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Paired bootstrap over the images of all unseen domains: rein against every other method, one entry for each seed."""
    found = []
    for one in entries:
        for other in entries:
            same = all(one[key] == other[key] for key in ("task", "augment", "head", "steps", "setup", "seed"))
            if not same or one["method"] != "rein" or other["method"] == "rein" or one["queries"] not in ("spread", ""):
                continue
            if identity(one) not in folders or identity(other) not in folders:
                continue
            first, second = (_matrices(folders[identity(e)], e["task"], unseen_domains(e)) for e in (other, one))
            found.append({**{key: one[key] for key in ("task", "head", "steps", "setup", "seed")}, "rein_minus": other["method"],
                          **{key: round(value, 3) for key, value in interval(first, second).items()}})
    return found


def _matrices(folder: Path, task: str, domains: list[str]) -> np.ndarray:
    """Confusion matrices of all images of the domains; on CamVid's classes under `transfer`."""
    found = np.concatenate([np.load(image_file(folder / "evaluation", name))["matrices"] for name in sorted(domains)])
    if task != "transfer":
        return found
    names = CITYSCAPES.names
    merge = np.array([[CAMVID.get(name, name) == other for other in names] for name in names], np.int64)  # [19 classes, theirs]
    return np.einsum("nij,ik,jl->nkl", found.astype(np.int64), merge, merge, optimize=True)


def as_json(results: dict[str, Any]) -> str:
    """results.json: one run or comparison a line."""
    lists = {name: ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries) for name, entries in results.items()}
    return "{\n" + ",\n".join(f'"{name}": [\n{lines}\n]' for name, lines in lists.items()) + "\n}\n"


def text(results: dict[str, Any]) -> str:
    """RESULTS.md."""
    return results_page.render(results, tables(results), unseen, fit)


def tables(results: dict[str, Any]) -> str:
    """Markdown of all tables."""
    groups: dict[tuple, list[dict]] = defaultdict(list)
    for entry in results["runs"]:
        groups[tuple(entry[key] for key in SETTINGS)].append(entry)
    out = []
    for (task, head, steps, setup), keys in sorted(_sections(groups).items(), key=lambda item: title(*item[0])):
        domains = list(groups[keys[0]][0]["domains"])
        bold = unseen_domains(groups[keys[0]][0])
        names = [f"**{name}**" if name in bold else f"{name} (source)" if name == SOURCE[task] else name for name in domains]
        out += ["", "### " + title(task, head, steps, setup), "", "| method | seeds | trained | " + " | ".join(names) + " | mean unseen |",
                "|---|---|---|" + "---|" * (len(names) + 1)]
        for key in sorted(keys, key=lambda k: -np.mean([unseen(e) for e in groups[k]])):
            rows = groups[key]
            label = " + ".join(filter(None, [key[1], f"{key[4]} queries" if key[4] else "", key[2] if key[2] != "none" else ""]))
            cells = [_cell([e["domains"][d] for e in rows]) for d in domains] + [_cell([unseen(e) for e in rows])]
            out.append(f"| {label} | {len(rows)} | {rows[0]['trainable'] / 1e6:.2f}M | " + " | ".join(cells) + " |")
    out += _fits(groups)
    if results["comparisons"]:
        out += ["", "### Rein minus another method, unseen images together (paired bootstrap over images, 95 %)", "",
                "| task | head | steps | setup | seed | against | difference | interval | share of draws in which Rein is better |",
                "|---|---|---|---|---|---|---|---|---|"]
        out += [f"| {c['task']} | {c['head']} | {c['steps']} | {c['setup']} | {c['seed']} | {c['rein_minus']} | {c['value']:+.2f} | "
                f"{c['low']:+.2f} ... {c['high']:+.2f} | {c['better']:.2f} |" for c in results["comparisons"]]
    return "\n".join(out) + "\n"


def _fits(groups: dict[tuple, list]) -> list[str]:
    """A table of how closely unseen mIoU follows the fit of the source, for every section with five methods or more."""
    out = ["", "### Fit of the source and unseen mIoU", "",
           "Training loss: mean over the last fifth of the run, then over seeds; no augmentation. r: Pearson's, over methods: all,",
           "and those that fit better than freeze.", "",
           "| task | head | steps | setup | methods, best fit first: loss, mean unseen | r | better than freeze |",
           "|---|---|---|---|---|---|---|"]
    for (task, head, steps, setup), keys in _sections(groups).items():
        mean = lambda key, of: float(np.mean([of(entry) for entry in groups[key]]))
        found = sorted((mean(key, fit), mean(key, unseen), ", ".join(filter(None, (key[1], key[4])))) for key in keys if key[2] == "none")
        if len(found) >= 5:
            frozen = next((loss for loss, _, name in found if name == "freeze"), 0.0)
            cells = "; ".join(f"{name}: {loss:.3f}, {value:.1f}" for loss, value, name in found)
            out.append(f"| {task} | {head} | {steps} | {setup} | {cells} | {_r(found)} | {_r([row for row in found if row[0] < frozen])} |")
    return out


def _r(rows: list[tuple]) -> str:
    """Pearson's correlation of the first two columns, or "" for fewer than five rows."""
    return f"{np.corrcoef(*zip(*(row[:2] for row in rows), strict=True))[0, 1]:+.2f}" if len(rows) >= 5 else ""


def _sections(groups: dict[tuple, list]) -> dict[tuple, list[tuple]]:
    found: dict[tuple, list[tuple]] = defaultdict(list)
    for key in sorted(groups, key=str):
        found[key[0], key[3], key[5], key[6]].append(key)
    return found


def title(task: str, head: str, steps: int, setup: str) -> str:
    return f"{task}, {head}, {steps} steps" + (f", {setup}" if setup else "")


def _cell(values: list[float]) -> str:
    return f"{np.mean(values):.2f}" + (f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else "")


def plots(results: dict[str, Any], folder: Path) -> list[Path]:
    """Training loss over steps, source against unseen, and where runs recorded it unseen over steps; a picture for each task and length."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    written = []
    order = lambda e: (e["task"], e["head"], e["steps"], e["setup"])
    for (task, head, steps, setup), entries in itertools.groupby(sorted(results["runs"], key=order), order):
        entries = list(entries)
        curves = any("curves" in entry for entry in entries)
        figure, (left, right, *third) = pyplot.subplots(1, 2 + curves, figsize=(11 + 5 * curves, 4), layout="constrained")
        left.set_prop_cycle(color=pyplot.get_cmap("tab20").colors[::2] + pyplot.get_cmap("tab20").colors[1::2])  # the usual ten, then paler
        grouped: dict[str, list] = defaultdict(list)
        for entry in entries:
            grouped[" + ".join(filter(None, [entry["method"], entry["queries"], entry["augment"].replace("none", "")]))].append(entry)
        for label, rows in sorted(grouped.items()):
            curve = np.mean([[value for _, value in row["loss"]] for row in rows], axis=0)
            line, = left.plot([step for step, _ in rows[0]["loss"]], curve, label=label)
            source = SOURCE[task]
            right.scatter([row["domains"][source] if source else fit(row) for row in rows], [unseen(row) for row in rows],
                          color=line.get_color(), label=label)
            if with_curve := [row for row in rows if "curves" in row]:
                steps_of, values = zip(*(unseen_curve(row) for row in with_curve), strict=True)
                third[0].plot(steps_of[0], np.mean(values, axis=0), marker="o", color=line.get_color(), label=label)
        if third:
            third[0].set(xlabel="step", ylabel="mean unseen mIoU, sample of images"), third[0].grid(alpha=0.3)
        left.set(xlabel="step", ylabel="training loss"), left.grid(alpha=0.3), left.legend(fontsize=8)
        right.set(xlabel=f"mIoU on {source}" if source else "training loss, last fifth of the run", ylabel="mean mIoU on unseen domains")
        right.grid(alpha=0.3)
        figure.suptitle(title(task, head, steps, setup))
        name = "_".join([task, head, str(steps), *setup.replace(",", "").replace("/", "-").split()])
        written.append(folder / f"{name}.png")
        figure.savefig(written[-1], dpi=90)
        pyplot.close(figure)
    return written


def unseen_curve(entry: dict[str, Any]) -> tuple[list[int], list[float]]:
    """(steps, mean mIoU over samples of the unseen domains)."""
    curves = [entry["curves"][name] for name in unseen_domains(entry)]
    return [step for step, _ in curves[0]], np.mean([[value for _, value in curve] for curve in curves], axis=0).tolist()


def main(arguments: list[str] | None = None) -> int:
    """Exit code of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=path_argument, help="folders of runs, or folders that hold some")
    parser.add_argument("--commit", default=commit(), help="of the code that made these runs (default: this checkout's)")
    parser.add_argument("--into", type=path_argument, default=HERE, metavar="DIR",
                        help="folder of results.json, RESULTS.md and the plots; new ones begin empty (default: the committed ones)")
    given = parser.parse_args(arguments)
    given.into.mkdir(parents=True, exist_ok=True)
    file, written = given.into / "results.json", given.into / "RESULTS.md"
    old = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"runs": [], "comparisons": []}
    for entry in old["runs"] + old["comparisons"]:
        entry.setdefault("setup", "")
    found, unfinished = runs.find(given.runs)
    for folder in unfinished:
        print(f"{folder}: not finished, left out")
    new = {identity(entry): (entry, run.folder) for run in found for entry in records(run, given.commit)}
    known = {identity(entry): entry for entry in old["runs"]}
    same = lambda a, b: {**a, "commit": ""} == {**json.loads(json.dumps(b)), "commit": ""}
    entries = [entry for key, entry in known.items() if key not in new]
    entries += [known[key] if key in known and same(known[key], entry) else entry for key, (entry, _) in new.items()]
    fresh = compare({key: folder for key, (_, folder) in new.items()}, entries)
    mark = lambda c: tuple(c[key] for key in ("task", "head", "steps", "setup", "seed", "rein_minus"))
    kept = [c for c in old["comparisons"] if mark(c) not in {mark(c) for c in fresh}]
    results = {"runs": sorted(entries, key=lambda e: str(identity(e))), "comparisons": sorted(kept + fresh, key=mark)}
    file.write_text(as_json(results), encoding="utf-8")
    written.write_text(text(results) if given.into == HERE else tables(results), encoding="utf-8")
    print(*plots(results, given.into), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

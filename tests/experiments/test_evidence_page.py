"""The numbers of benchmarks/generalisation/RESULTS.md are those of results.json, and each table has a command that repeats its runs."""

import importlib.util
import json
import shlex
import sys
from pathlib import Path
from statistics import mean, stdev

from rein_jax import configuration
from rein_jax.cli.sweep import parser
from rein_jax.experiments import sweep

FOLDER = Path(__file__).parents[2] / "benchmarks" / "generalisation"


def script(name, monkeypatch):
    """A module of the evidence's folder; what it adds to sys.path and sys.modules is undone after the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "collect", None)
    del sys.modules["collect"]
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def results():
    return json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))


def test_the_page_holds_the_recorded_numbers(monkeypatch):
    collect = script("collect", monkeypatch)
    page = (FOLDER / "RESULTS.md").read_text(encoding="utf-8")
    shown = page[page.index(collect.START) + len(collect.START):page.index(collect.END)]
    assert shown.strip() == collect.tables(results()).strip()


def test_the_page_tells_how_far_full_moved_as_recorded():
    page = (FOLDER / "RESULTS.md").read_text(encoding="utf-8")
    moved = json.loads((FOLDER / "moved.json").read_text(encoding="utf-8"))
    far, why = page.index("**How far `full` moves**"), page.index("**Why `full` leads here")
    for part in ("mlp", "attn", "patch_embed", "pos_embed"):
        assert f"{moved['full'][part]:.2f} %" in page[far:why]
    short, middle, long = (moved[name]["backbone"] for name in ("full", "full, rate x 0.03", "full, rate x 0.1"))
    assert f"moved {long:.1f} % of their norm instead of {short:.2f} % ({middle:.2f} % at 0.03)" in page[why:]


def test_the_page_reads_the_long_runs_as_recorded():
    page, found = (FOLDER / "RESULTS.md").read_text(encoding="utf-8"), results()
    ways = {"freeze": "freeze", "Rein": "rein", "`full`": "full, backbone lr x 0.01"}
    runs = {way: [r for r in found["runs"] if (r["task"], r["steps"], r["method"], r["setup"]) == ("transfer", 2000, method, "")]
            for way, method in ways.items()}
    for way, three in runs.items():
        assert len(three) == 3
        middle, end = (mean([dict(r["curves"]["clear"])[step] for r in three]) for step in (1500, 2000))
        assert f"for {way} ({middle:.1f}, {end:.1f}" in page
    kept = {way: mean([r["domains"]["camvid"] / r["domains"]["clear"] for r in three]) for way, three in runs.items()}
    text = " ".join(page.split())
    assert f"it keeps {kept['`full`']:.2f} of its source mIoU on CamVid, freeze {kept['freeze']:.2f}, Rein {kept['Rein']:.2f}" in text
    long = [c for c in found["comparisons"] if (c["head"], c["steps"], c["setup"]) == ("mask2former", 2000, "")]
    for other, sign, words in (("freeze", 1, "Rein is ahead in all"), (ways["`full`"], -1, "`full` is ahead in all")):
        sizes = [sign * c["value"] for c in long if c["rein minus"] == other]
        size = f"by {min(sizes):.1f} to {max(sizes):.1f}"
        assert len(sizes) == (8 if sign > 0 else 9) and f"{words}, {size}" in text and f"{size} points" in text[:text.index("###")]
        assert sum(c["low"] < 0 < c["high"] for c in long if c["rein minus"] == other) == 1


def test_the_page_compares_the_ways_to_tune_a_frozen_backbone_as_recorded():
    page, found = (FOLDER / "RESULTS.md").read_text(encoding="utf-8"), results()
    rows = {"(a) `streets`": ("streets", "mask2former"), "(b) CamVid": ("camvid", "mask2former"),
            "(c) `streets` to CamVid": ("transfer", "mask2former"), "(b), Semantic FPN": ("camvid", "semantic_fpn")}  # fmt: skip
    unseen = {"streets": ("night", "fog", "rain", "snow", "city"), "camvid": ("camvid-day_test", "camvid-dusk"), "transfer": ("camvid",)}
    for name, (task, head) in rows.items():
        cells = []
        for method in ("lora", "adaptformer", "rein", "vpt", "freeze", "full, backbone lr x 0.01"):
            wanted = (task, head, 2000, method, "")
            runs = [r for r in found["runs"] if tuple(r[key] for key in ("task", "head", "steps", "method", "setup")) == wanted]
            values = [mean(r["domains"][domain] for domain in unseen[task]) for r in runs if r["queries"] in ("", "spread")]
            cells.append(f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else ""))
        assert f"| {name} | {' | '.join(cells)} |" in page


def test_the_page_reads_the_longest_runs_as_recorded():
    page, found = (FOLDER / "RESULTS.md").read_text(encoding="utf-8"), results()
    styles = ("night", "fog", "rain", "snow", "city")
    for way, method in {"`full` at 0.01": "full, backbone lr x 0.01", "LoRA": "lora", "Rein": "rein"}.items():
        cells = []
        for steps in (2000, 4000):
            wanted = ("transfer", "mask2former", steps, method, "", 0)
            run, = [r for r in found["runs"] if tuple(r[key] for key in ("task", "head", "steps", "method", "setup", "seed")) == wanted]
            other, = [r for r in found["runs"] if r["task"] == "streets" and all(r[k] == run[k] for k in
                      ("head", "steps", "method", "setup", "seed", "queries", "augment"))]
            clear, camvid = run["domains"]["clear"], run["domains"]["camvid"]
            cells.append([f"{clear:.1f}", f"{mean(other['domains'][s] for s in styles):.1f}", f"{camvid:.1f}", f"{camvid / clear:.2f}"])
        assert f"| {way} | {' | '.join(' -> '.join(pair) for pair in zip(*cells, strict=True))} |" in page
        curve = dict(run["curves"]["clear"])
        assert f"{way.split()[0]} {', '.join(f'{curve[step]:.1f}' for step in (3000, 3500, 4000))}" in page
    long = {(c["task"], c["rein minus"]): [c[key] for key in ("value", "low", "high")] for c in found["comparisons"] if
            (c["head"], c["steps"]) == ("mask2former", 4000)}
    (a, a_low, a_high), (c, c_low, c_high) = (long[task, "full, backbone lr x 0.01"] for task in ("streets", "transfer"))
    assert f"by {-a:.1f} points on the unseen styles ({-a_high:.1f} to {-a_low:.1f}; " in page
    assert f"by {-c:.1f} on CamVid ({-c_high:.1f} to {-c_low:.1f}; " in page
    (a, a_low, a_high), (c, c_low, c_high) = (long[task, "lora"] for task in ("streets", "transfer"))
    assert f"({a:.1f}, {a_low:.1f} to {a_high:.1f}), Rein ahead on CamVid ({c:.1f}, {c_low:.1f} to {c_high:.1f})" in page
    resnet, = [r for r in found["runs"] if r["setup"] == "resnet_50 from random weights"]
    day, dusk = resnet["domains"]["camvid-day_test"], resnet["domains"]["camvid-dusk"]
    assert f"{day:.1f} by day and {dusk:.1f} at dusk, {mean((day, dusk)):.1f} together" in page
    eomt, = [r for r in found["runs"] if r["head"] == "eomt"]
    day, dusk = eomt["domains"]["camvid-day_test"], eomt["domains"]["camvid-dusk"]
    assert f"day_test {day:.1f}, dusk {dusk:.1f}, mean {mean((day, dusk)):.1f}; it loses {day - dusk:.1f} at dusk" in page


def test_the_page_reads_the_runs_on_little_of_the_source_as_recorded():
    page, found = " ".join((FOLDER / "RESULTS.md").read_text(encoding="utf-8").split()), results()
    values = {}
    for setup in ("", "1/16 of the source"):
        for method in ("full, backbone lr x 0.01", "rein", "freeze"):
            wanted = ("camvid", "semantic_fpn", 2000, method, setup, 0)
            run, = [r for r in found["runs"] if tuple(r[key] for key in ("task", "head", "steps", "method", "setup", "seed")) == wanted]
            values[setup, method] = mean(run["domains"].values()), run["domains"]["camvid-dusk"]
    full, rein, freeze = (values["1/16 of the source", method][0] for method in ("full, backbone lr x 0.01", "rein", "freeze"))
    assert f"`full` gives {full:.1f} unseen, Rein {rein:.1f} and freeze {freeze:.1f}" in page
    lost = [[whole - part for whole, part in zip(values["", method], values["1/16 of the source", method], strict=True)]
            for method in ("full, backbone lr x 0.01", "rein", "freeze")]
    (full, _), (rein, _), (freeze, _) = lost
    assert f"`full` loses {full:.1f} points to having fewer images, Rein {rein:.1f}, freeze {freeze:.1f}" in page
    assert "(at dusk {:.1f}, {:.1f} and {:.1f})".format(*(dusk for _, dusk in lost)) in page
    by = {c["rein minus"]: c["value"] for c in found["comparisons"] if c["setup"] == "1/16 of the source"}
    assert f"to {-by['full, backbone lr x 0.01']:.1f}, its lead over freeze from 10.4 to {by['freeze']:.1f}" in page


def test_what_came_out_again_is_told_as_recorded(monkeypatch):
    repeats = json.loads((FOLDER / "repeats.json").read_text(encoding="utf-8"))
    page, protocol = (" ".join((FOLDER / f"{name}.md").read_text(encoding="utf-8").split()) for name in ("RESULTS", "README"))
    collect, by_table = script("collect", monkeypatch), {}
    for repeat in repeats:
        kept = [r["domains"] for r in results()["runs"] if (r["method"], r["seed"]) == (repeat["method"], repeat["seed"])
                and collect.title(*(r[key] for key in ("task", "head", "steps", "setup"))) == repeat["table"]]
        assert kept[0] in (repeat["first"], repeat["again"])
        first, again = mean(repeat["first"].values()), mean(repeat["again"].values())
        by_table.setdefault(repeat["table"], []).append((first, again))
    for table, pairs in by_table.items():
        assert f'"{table}" by {max(abs(again - first) for first, again in pairs):.1f}' in protocol
    (wide,), (long,), (full, rein) = by_table.values()
    assert f"same seed: {wide[1]:.1f}, by day" in page
    assert f"`full` had been {full[0]:.1f}, Rein {rein[0]:.1f} before" in page
    assert f"{long[1]:.1f} after {long[0]:.1f}." in page


def test_one_command_repeats_each_table(monkeypatch, tmp_path):
    repeat = script("repeat", monkeypatch)
    made = {title: {key for line in lines for key in identities(line, repeat, tmp_path)} for title, lines in repeat.TABLES.items()}
    for entry in results()["runs"]:
        title = repeat.collect.title(*(entry[key] for key in ("task", "head", "steps", "setup")))
        assert title in made
        assert repeat.collect.identity(entry) in made[title]


def test_a_rehearsal_makes_the_same_runs_short(monkeypatch, tmp_path):
    repeat = script("repeat", monkeypatch)
    for line in {line for lines in repeat.TABLES.values() for line in lines}:
        for whole, short in zip(configs(line, repeat, tmp_path), configs(repeat.rehearsal(line), repeat, tmp_path), strict=True):
            assert short["train"]["steps"] == 2
            assert all(d.get("length") == 1 or d.get("subset") == "1/200" for d in short["eval"]["domains"])
            for section, key in (("train", "steps"), ("train", "eval_every"), ("optim", "warmup_steps"), ("optim", "backbone_warmup")):
                short[section][key] = whole[section][key]
            short["eval"]["domains"] = whole["eval"]["domains"]
            assert short == whole


def test_collected_runs_can_go_into_a_folder_of_their_own(monkeypatch, tmp_path):
    collect = script("collect", monkeypatch)
    monkeypatch.setattr(collect.runs, "find", lambda folders: ([], []))
    assert collect.main([str(tmp_path), "--into", str(tmp_path / "own")]) == 0
    assert sorted(file.name for file in (tmp_path / "own").iterdir()) == ["RESULTS.md", "results.json"]


def configs(line, repeat, folder):
    """The configs of the runs of a line."""
    arguments, *rest = shlex.split(line)
    overrides, rest = configuration.split_overrides([f"{repeat.CONFIG}:{arguments}", *rest])
    given = parser().parse_args(rest)
    for member in sweep.members(given.config, sweep.axes(given.grid, given.config), overrides, folder):
        yield json.loads(configuration.to_json(member.load()))


def identities(line, repeat, folder):
    """What tells the runs of a line from others, as the collected results have it: once for each task a run answers."""
    for config in configs(line, repeat, folder):
        tasks = ["transfer"] if any(entry["name"] == "camvid" for entry in config["eval"]["domains"]) else []
        for task in ["camvid"] if config["data"]["train"][0]["name"] == "camvid" else ["streets", *tasks]:
            yield repeat.collect.identity({"task": task, **repeat.collect.settings(config), "seed": config["seed"]})

"""Tables from run folders: which row a run belongs to, means over seeds, captions, formats."""

from __future__ import annotations

import csv
import io
import json

import pytest

from rein_jax import configuration
from rein_jax.cli import tables as command
from rein_jax.errors import UserError
from rein_jax.experiments import runs, tables
from tests.experiments.made import PROTOCOL, make_run

REIN = "configs/gta_to_cbm.py:backbone=dinov2_l,method=rein"
CBM = {"cityscapes": 66.0, "bdd100k": 60.0, "mapillary": 66.0}


def lines_of(sheet, *labels):
    return [row for row in sheet.body if row[: len(labels)] == list(labels)]


@pytest.fixture
def two_seeds(tmp_path):
    make_run(tmp_path / "a", REIN, CBM)
    make_run(tmp_path / "b", "configs/rein_dinov2_gta.py", {**CBM, "cityscapes": 67.0}, "seed=1", "data.root=/elsewhere", full=False)
    return tmp_path


def test_seeds_share_a_cell_beside_the_published_number(two_seeds):
    found = tables.sheets(runs.find([two_seeds])[0])
    assert [sheet.title.split(".")[0] for sheet in found] == ["Table 2", "Table 4", "Table 5"]
    (row,) = lines_of(found[0], "DINOv2-L", "Rein")
    assert row[2:7] == ["2.99M", "66.4", "66.50 ± 0.71", "60.4", "60.00 ± 0.00"] and row[-3:] == ["64.3", "64.17 ± 0.24", "a"]
    (row,) = lines_of(found[0], "DINOv2-L", "Full")
    assert row[2:5] == ["304.20M", "63.7", tables.NOT_RUN] and row[-1] == ""
    (row,) = lines_of(found[1], "GTAV", "Rein")
    assert row[3:5] == ["66.4", "66.50 ± 0.71"]
    note = found[0].notes[1]
    assert "slide 512 stride 341" in note and "40000 steps of 4" in note and "seeds 0, 1" in note and "the published recipe" in note


def test_other_protocols_get_their_own_line_and_say_so(two_seeds):
    make_run(two_seeds / "c", REIN, CBM, "train.steps=300", "seed=2")
    sheet = tables.sheets(runs.find([two_seeds])[0], [2])[0]
    assert [row[-1] for row in lines_of(sheet, "DINOv2-L", "Rein")] == ["a", "b"]
    assert "differs from the published recipe in train.steps 40000 -> 300" in sheet.notes[2]


def test_conditions_are_columns(tmp_path):
    parts = {"night": 70.0, "snow": 79.0, "fog": 76.0, "rain": 78.0}
    make_run(tmp_path / "a", "configs/citys_to_acdc.py", {"acdc": 75.0}, conditions={"acdc": parts})
    (row,) = lines_of(tables.sheets(runs.find([tmp_path])[0])[0], "DINOv2-L", "Rein")
    assert row[3:13:2] == ["70.6", "79.5", "76.4", "78.2", "77.0"] and row[4:14:2] == ["70.00", "79.00", "76.00", "78.00", "75.00"]


def test_second_stage_and_mixtures_are_rows_of_table_4(tmp_path):
    make_run(tmp_path / "a", "configs/synthetic_to_citys.py", {"cityscapes": 78.0})
    make_run(tmp_path / "b", f"configs/synthetic_to_citys.py:stage=2,init_from={tmp_path / 'a'}", {"cityscapes": 82.0})
    sheet = tables.sheets(runs.find([tmp_path])[0], [4])[0]
    assert [row[4] for row in sheet.body] == [tables.NOT_RUN, tables.NOT_RUN, "78.00", "82.00"]


def test_other_runs_are_compared_over_unseen_domains(tmp_path):
    numbers = {"clear": 60.0, "night": 40.0, "fog": 50.0, "rain": 50.0, "snow": 50.0, "city": 50.0}
    for seed, shift in ((0, 0.0), (1, 1.0)):
        for method, gain in (("rein", 0.0), ("lora", -9.0)):
            shifted = {name: value + gain + shift for name, value in numbers.items()}
            make_run(tmp_path / f"{method}{seed}", f"configs/quickstart.py:method={method}", shifted, f"seed={seed}")
    make_run(tmp_path / "short", "configs/quickstart.py", numbers, "train.steps=20")
    (sheet,) = tables.sheets(runs.find([tmp_path])[0])
    assert sheet.header == ["experiment", "clear (seen)", "night", "fog", "rain", "snow", "city", "mean unseen", "runs"]
    by_name = {row[0]: row for row in sheet.body}
    assert by_name["quickstart-lora"][-2] == "39.50 ± 0.71"
    usual = configuration.load("configs/quickstart.py").train.steps
    assert by_name[f"quickstart-rein (train.steps={usual})"][1:3] == ["60.50 ± 0.71", "40.50 ± 0.71"]
    assert "quickstart-rein (train.steps=20)" in by_name
    leading = tables.best([("rein", (48.5, 0.71), 2), ("lora", (39.5, 0.71), 2)])[0]
    assert "9.00 above lora" in leading and "beyond the noise" in leading
    assert "within the noise" in tables.best([("rein", (40.0, 0.71), 2), ("lora", (39.5, 0.71), 2)])[0]
    assert "one seed" in sheet.notes[-1]


def test_runs_with_python_objects_are_compared(tmp_path):
    for name, value in (("a", 50.0), ("b", 60.0)):
        folder = make_run(tmp_path / name, "configs/quickstart.py", {"mine": value}, f"name={name}")
        config = json.loads((folder / "config.json").read_text())
        config["data"]["train"], config["eval"]["domains"] = [{"object": "my.data:Roads"}], [{"object": "my.data:Fields"}]
        config["backbone"]["name"], config["loss"]["name"] = {"object": "my.parts:Net"}, {"object": "my.parts:loss", "repr": name}
        (folder / "config.json").write_text(json.dumps(config))
    (sheet,) = tables.sheets(runs.find([tmp_path])[0])
    assert sheet.title == "Runs on Roads" and sheet.header[1] == "mine"
    assert [row[:2] for row in sheet.body] == [["a", "50.00"], ["b", "60.00"]]


def test_no_leader_among_runs_tested_in_different_ways(tmp_path):
    for name, protocol in (("a", "full, whole image"), ("b", PROTOCOL)):
        file = make_run(tmp_path / name, "configs/camvid_dinov2s.py", {"camvid": 70.0, "camvid dusk": 50.0}, full=False) / "results.json"
        file.write_text(file.read_text().replace(PROTOCOL, protocol))
    (sheet,) = tables.sheets(runs.find([tmp_path])[0])
    assert len(sheet.body) == 2 and "different ways" in sheet.notes[-1] and not any("Highest" in note for note in sheet.notes)


def test_camvid_by_day_is_seen_and_dusk_is_not(tmp_path):
    make_run(tmp_path / "a", "configs/camvid_dinov2s.py", {"camvid": 70.0, "camvid dusk": 50.0})
    assert tables.sheets(runs.find([tmp_path])[0])[0].header[1:4] == ["camvid (seen)", "camvid dusk", "mean unseen"]


@pytest.mark.parametrize("style, words", [("md", "| DINOv2-L | Rein |"), ("html", "<td>66.50 ± 0.71</td>"), ("latex", r"66.50 $\pm$ 0.71"),
                                          ("text", "66.50 ± 0.71")])  # fmt: skip
def test_formats(two_seeds, tmp_path, style, words):
    out = tmp_path / "tables"
    assert command.main([str(two_seeds), "--format", style, "--table", "2", "--out", str(out)]) == 0
    text = out.read_text()
    assert words in text and "Table 2" in text and "seeds 0, 1" in text


def test_csv_has_the_protocol_in_every_row(two_seeds):
    sheet = tables.sheets(runs.find([two_seeds])[0], [2])[0]
    rows = list(csv.DictReader(io.StringIO(tables.render(sheet, "csv"))))
    mine = [row for row in rows if row["backbone"] == "DINOv2-L" and row["method"] == "Rein"]
    assert mine[0]["Citys ours"] == "66.50 ± 0.71" and "40000 steps" in mine[0]["protocol"] and len(rows) == 15


def test_without_runs_all_published_tables(capsys):
    assert command.main([]) == 0
    text = capsys.readouterr().out
    assert all(f"Table {n}." in text for n in range(1, 8)) and "TIP 21" in text and "HGFormer" in text and "not run" in text


def test_a_run_that_was_measured_later_counts_with_each_measurement(tmp_path):
    for way, shift in (("full-slide512-341", 0.0), ("official-512-whole", 1.0)):
        make_run(tmp_path / "a" / "eval" / way, REIN, {**CBM, "cityscapes": 66.0 + shift}, full=False)
        (tmp_path / "a" / "eval" / way / "config.json").rename(tmp_path / "a" / "config.json")
    found, unfinished = runs.find([tmp_path])
    assert [run.folder.name for run in found] == ["full-slide512-341", "official-512-whole"] and not unfinished
    assert [run.config["adapter"]["name"] for run in found] == ["rein", "rein"]
    (tmp_path / "a" / "eval").rename(make_run(tmp_path / "b", REIN, CBM) / "eval")
    assert [run.folder.name for run in runs.find([tmp_path / "b"])[0]] == ["b"]


def test_unfinished_runs_are_left_out_and_wrong_paths_named(two_seeds, tmp_path, capsys):
    (two_seeds / "d").mkdir()
    (two_seeds / "d" / "config.json").write_text("{}")
    command.main([str(two_seeds), "--table", "2"])
    assert "not finished" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    for path, words in ((tmp_path / "none", "does not exist"), (tmp_path / "empty", "holds no run")):
        with pytest.raises(UserError, match=words):
            runs.find([path])

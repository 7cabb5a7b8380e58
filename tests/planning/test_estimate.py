"""Estimated times, read from a small program in the form in which the TPU compiler writes one; no TPU compiler is needed."""

import json
from pathlib import Path

import pytest

from rein_jax.cli.main import main
from rein_jax.cli.plan import table
from rein_jax.planning import chart
from rein_jax.planning.estimate import CHIPS, TURNS, estimate
from rein_jax.planning.flops import peak

TEXT = (Path(__file__).parents[1] / "fixtures" / "hlo" / "step.hlo").read_text(encoding="utf-8")
TOTAL = 24 * 1010 + 6 * 4 * 7 + TURNS * 50 + 305


def plan(text: str = TEXT, temporaries: int = 2**30):
    found = estimate(text).report("v5e", 2, 1e6)
    train = {"images_per_chip": 2, "fits": True, "spare_bytes": 1, "argument_bytes": 1, "temporary_bytes": temporaries, "peak_bytes": 2,
             "flops": 1e6, "bytes_accessed_once": None, "compile_seconds": 1.0, "collectives": {}, "estimate": found}
    return {"topology": "v5e:2x2", "chips": 4, "mesh": {"data": 4}, "sharding": "dp", "compute": "bfloat16", "hbm_bytes": 2**34,
            "trainable": 1, "frozen": 2, "train": train}


def test_cycles_by_part_and_direction():
    """Loops as often as they run, within one another, too; what says nothing of itself belongs to the loop around it."""
    found = estimate(TEXT)
    assert found.cycles == {("blocks", "forward"): 24 * 1010, ("encoder", "backward"): 6 * 4 * 7, ("matching", "forward"): TURNS * 50,
                            ("update", "forward"): 300, ("other", "forward"): 5}


def test_what_has_no_estimate():
    assert estimate(TEXT).silent == {("sort", "encoder", 2_064_384): 6, ("scatter", "encoder", 2_064_384): 6,
                                     ("gather", "choice of points", 7): 1, ("kernel", "encoder", 0): 1}
    counted = TEXT.replace("calls=%fused_gather", 'calls=%fused_gather, backend_config={"window_config":{"estimated_cycles":"9"}}')
    found = estimate(counted)
    assert found.cycles["choice of points", "forward"] == 9 and not any(what == "gather" for what, *_ in found.silent)


def test_a_loop_that_ends_on_data_is_told():
    assert estimate(TEXT).guessed == {"matching": 1}


def test_report():
    found = estimate(TEXT).report("v5e", 2, 1e6)
    seconds = TOTAL / 1503e6
    assert found["cycles"] == TOTAL and found["milliseconds"] == round(seconds * 1e3, 3)
    assert found["images_per_second"] == round(2 / seconds, 2) and found["share_of_peak"] == round(1e6 / 197e12 / seconds, 4)
    assert list(found["parts"])[:2] == ["blocks", "matching"] and found["parts"]["encoder"] == {"backward": 0.0}
    assert [row["what"] for row in found["without_estimate"][:2]] == ["sort", "scatter"]
    assert json.loads(json.dumps(found)) == found
    nothing = estimate("").report("v6e", 1, 1.0)
    assert nothing["images_per_second"] is None and chart.totals(nothing) == "the compiler gives no estimate"


@pytest.mark.parametrize("kind, device, products, share", [
    ("v4", "TPU v4", 2 * 4 * 128**2, 0.5), ("v5e", "TPU v5e", 2 * 4 * 128**2, 1), ("v5p", "TPU v5p", 2 * 2 * 4 * 128**2, 1),
    ("v6e", "TPU v6e", 2 * 4 * 256**2, 1)])
def test_clocks_give_the_data_sheets_peak(kind, device, products, share):
    assert CHIPS[kind].peak == share * peak(device)
    assert CHIPS[kind].mhz * 1e6 * products == pytest.approx(CHIPS[kind].peak, rel=2e-3)


def test_the_table_has_a_bar_for_each_part():
    lines = table(plan()).splitlines()
    blocks, = [line for line in lines if "train: blocks" in line]
    assert blocks.count("#") == chart.WIDTH and "=" not in blocks
    assert any("sort of 2,064,384 rows 6x (encoder)" in line for line in lines)
    assert any("1 loop(s) of the matching end on data: 12 turns are taken" in line for line in lines)


def test_two_plans_side_by_side(tmp_path, capsys):
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    before.write_text(json.dumps(plan()) + "\n")
    after.write_text(json.dumps(plan(TEXT.replace('"1000"', '"490"'), 2**29)) + "\n\n")
    assert main(["plan", "--compare", str(before), str(after)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["blocks", "0.0", "ms", "0.0", "ms", "0.50"] in rows and ["temporaries", "1.00", "GiB", "0.50", "GiB", "0.50"] in rows
    assert ["without", "an", "estimate,", "after:", "sort", "of", "2,064,384", "x", "6;"] in [row[:9] for row in rows]
    assert rows[0] == ["v5e:2x2", "->", "v5e:2x2"] and any(row[0] == "total" for row in rows)


@pytest.mark.parametrize("content, words", [("[]", "holds no plans"), ("", "holds no plans"), ("{", "cannot be read as plans"),
                                            (None, "cannot be read as plans")])
def test_files_that_are_no_plans_are_named(content, words, tmp_path, capsys):
    file = tmp_path / "x.json"
    if content is not None:
        file.write_text(content)
    assert main(["plan", "--compare", str(file), str(file)]) == 2
    message = capsys.readouterr().err
    assert words in message and str(file) in message and message.count("\n") == 1


@pytest.mark.parametrize("argv", [[], ["configs/quickstart.py"], ["--topology", "v5e:2x2"]])
def test_there_is_something_to_plan(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["plan", *argv])
    assert ended.value.code == 2 and "give a CONFIG and at least one --topology" in capsys.readouterr().err

"""What scripts write into docs/ is what lies there, and the measured numbers on docs/speed.md are those of the benchmarks' files."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"scripts/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pictures_are_those_that_the_script_draws():
    for name, draw in script("docs_pictures").PICTURES.items():
        file = ROOT / "docs/images" / name
        assert draw() == file.read_text(encoding="utf-8"), f"{name}: run scripts/docs_pictures.py"
    assert all(file.stat().st_size < 300_000 for file in (ROOT / "docs/images").iterdir())


def test_the_page_of_the_papers_rows_is_current():
    assert script("docs_paper").page() == (ROOT / "docs/paper.md").read_text(encoding="utf-8"), "run scripts/docs_paper.py"


NUMBER = r"([\d.]+)"
MEASURED = [
    ("ViT-S, Rein + Mask2Former, forward", "twin_s", "forward", "s"), ("the same, training step", "twin_s", "step", "s"),
    ("ViT-B, forward", "twin_b_forward", "forward", "s"), ("ViT-B, training step", "twin_b", "step", "s"),
    ("forward", "gpu_twin_l", "forward", "ms"), ("training step", "gpu_twin_l", "step", "ms"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "file", "mode", "unit"), MEASURED)
def test_speed_is_as_measured(row, file, mode, unit):
    page = (ROOT / "docs/speed.md").read_text(encoding="utf-8")
    measured = json.loads((ROOT / f"benchmarks/{file}.json").read_text(encoding="utf-8"))["result"][mode]
    ours, torch = measured["ours"]["seconds"], measured["torch"]["seconds"]
    shown = re.search(rf"^\| {re.escape(row)} \| {NUMBER} {unit} \| {NUMBER} {unit}[^|]*\| \**{NUMBER}", page, re.M).groups()
    factor = {"s": 1, "ms": 1000}[unit]
    for text, exact in zip(shown, (factor * ours, factor * torch, torch / ours), strict=True):
        assert float(text) == pytest.approx(exact, abs=0.51 * 10.0 ** -len(text.partition(".")[2]))

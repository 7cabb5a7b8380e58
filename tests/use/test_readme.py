"""The Python examples of README and docs/ run: every block after a line `<!-- test -->`, those of a page in order and in one namespace."""

import json
import re
from pathlib import Path

import cv2
import pytest

from tests.use.tiny import write_tiny

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"<!-- test -->\s*```python\n(.*?)```", re.S)


def blocks(text: str) -> list[str]:
    return BLOCK.findall(text)


def test_blocks_are_found():
    text = "a\n<!-- test -->\n```python\nx = 1\n```\n```python\nnot_run()\n```\n<!-- test -->\n\n```python\nassert x == 1\n```\n"
    assert blocks(text) == ["x = 1\n", "assert x == 1\n"]


PAGES = [page for page in (README, *sorted((README.parent / "docs").rglob("*.md"))) if blocks(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_run(page, tmp_path, monkeypatch, scenes):
    """The examples may use a model `runs/quickstart` and a picture `street.png`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/quickstart").mkdir(parents=True)
    write_tiny(tmp_path / "runs/quickstart/model.safetensors", "lora")
    cv2.imwrite("street.png", scenes[0][..., ::-1])
    names: dict = {"__name__": "__page__"}
    for number, code in enumerate(blocks(page.read_text(encoding="utf-8"))):
        exec(compile(code, f"{page.name}, example {number + 1}", "exec"), names)


def test_timings_on_a_gpu_are_those_recorded():
    page, folder = README.read_text(encoding="utf-8"), README.parent / "benchmarks"
    twin = json.loads((folder / "gpu_twin_l.json").read_text(encoding="utf-8"))["result"]
    for name, mode in (("forward", "forward"), ("training step", "step")):
        ours, torch = twin[mode]["ours"], twin[mode]["torch"]
        number = r"([\d.]+)"
        row = rf"\| {name} \| {number} ms \| {number} ms \(best {number}\) \| {number} \(best passes {number}\) \|"
        cells = re.search(row, page).groups()
        times = [1e3 * ours["seconds"], 1e3 * torch["seconds"], 1e3 * torch["best"]]
        for shown, exact in zip(cells, [*times, torch["seconds"] / ours["seconds"], torch["best"] / ours["best"]], strict=True):
            assert float(shown) == round(exact, len(shown.partition(".")[2]))
    for row in json.loads((folder / "gpu_step.json").read_text(encoding="utf-8"))["rows"][2:]:
        assert re.search(rf"\b{1e3 * row['batch'] / row['queued_ms']:.0f}\b", page[page.index("Steps in a row"):])

"""The Python examples of README and docs/ run: every block after a line `<!-- test -->`, those of a page in order and in one namespace."""

import json
import re
from pathlib import Path

import cv2
import pytest

from rein_jax.experiments import paper
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
    page, folder = (README.parent / "docs/speed.md").read_text(encoding="utf-8"), README.parent / "benchmarks"
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
        assert re.search(rf"\b{1e3 * row['batch'] / row['queued_ms']:.0f}\b", page[page.index("Training steps in a row"):])


def test_the_page_is_short():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 130 and max(len(line) for line in lines if not line.startswith("|")) <= 120


def test_files_that_are_linked_exist():
    targets = re.findall(r"\]\((?!\w+:|#)([^)#]+)", README.read_text(encoding="utf-8"))
    assert len(targets) > 20 and not [target for target in targets if not (README.parent / target).exists()]


def test_speed_is_as_measured():
    page, folder = README.read_text(encoding="utf-8"), README.parent / "benchmarks"
    number = r"([\d.]+)"
    shown = re.search(rf"takes {number} ms on one H100, in PyTorch \(eager\)\s+{number} ms;.*?takes {number} s, in PyTorch {number} s\.",
                      page, re.S)
    exact = [json.loads((folder / name).read_text(encoding="utf-8"))["result"]["step"] for name in ("gpu_twin_l.json", "twin_s.json")]
    seconds = [factor * step[side]["seconds"] for step, factor in zip(exact, (1e3, 1), strict=True) for side in ("ours", "torch")]
    assert list(shown.groups()) == [f"{value:.{len(text.partition('.')[2])}f}" for text, value in zip(shown.groups(), seconds, strict=True)]


METHODS = {"freeze": "frozen", "rein + spread queries": "Rein", "lora": "LoRA", "adaptformer": "AdaptFormer",
           "full, backbone lr x 0.01": "full"}  # fmt: skip
TASKS = {"camvid": "CamVid by day", "streets": "five other styles", "transfer": "photographs of CamVid"}


def test_results_are_those_of_the_evidence_and_of_the_paper():
    page = README.read_text(encoding="utf-8")
    evidence = (README.parent / "benchmarks/generalisation/RESULTS.md").read_text(encoding="utf-8")
    head = re.search(r"^\| trained on, tested on \|(.*)\|$", page, re.M)[1]
    columns = [title.strip() for title in head.split("|")]
    row = lambda words: [cell.strip() for cell in re.search(rf"^\| [^|]*{words}[^|]*\|(.*)\|$", page, re.M)[1].split("|")]
    for task, words in TASKS.items():
        table = re.search(rf"^### {task}, mask2former, 2000 steps\n(.*?)^#", evidence, re.M | re.S)[1]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")]
        means = {METHODS[line[0]]: f"{float(line[-1].split()[0]):.1f} ({line[1]})" for line in cells if line[0] in METHODS}
        assert row(words) == [means[title] for title in columns]
    published = {line.labels[-1]: line.numbers[-1] for number in (2, 5) for line in paper.TABLES[number].rows
                 if line.labels[0] == "DINOv2-L"}  # fmt: skip
    names = {"frozen": "Freeze", "full": "Full"}
    assert row("published: GTAV") == [f"{published[names.get(title, title)]:.1f}" for title in columns]

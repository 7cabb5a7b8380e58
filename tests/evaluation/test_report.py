"""report.html: complete, self-contained, safe, and alive in a browser."""

import json
import re
import shutil
import tomllib
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeModel, FakeSource

from rein_jax.cli.report import main
from rein_jax.errors import UserError
from rein_jax.evaluation.evaluator import evaluate
from rein_jax.reporting import page as page_of
from rein_jax.reporting import write_report
from rein_jax.reporting.page import ENVIRONMENT, charts
from rein_jax.reporting.results import FORMAT, load_results
from rein_jax.training.artifacts import headline, write_json
from tests.use.chromium import BROWSER, Page

HOW = {"crop": 32, "stride": 21, "batch": 2, "progress": False}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two run folders as training leaves them: config.json, metrics.jsonl, evaluation/."""
    folders = []
    for seed, name in enumerate(("rein <b>", "freeze")):
        folder = tmp_path_factory.mktemp(f"run{seed}")
        sources = {"town & <i>co</i>": FakeSource(6), "city": FakeSource(4, seed=1, broken=[2])}
        facts = {"name": name, "path": str(folder), "random_weights": seed == 1, "weights": {"name": "vit", "source": "random"}}
        more = {"corruptions": "contrast", "severities": [1, 3]} if seed == 0 else {}
        evaluate(FakeModel(seed), sources, out=folder / "evaluation", facts=facts, boundary=True, panels=2, **more, **HOW)
        (folder / "config.json").write_text(json.dumps({"adapter": {"name": "rein"}, "head": {"name": "semantic_fpn"}}))
        rows = [{"step": s, "kind": "train", "loss": 3 / s, "lr": 1e-4 / s} for s in range(1, 100)]
        rows += [{"step": s, "kind": "eval", "city/mIoU": s / 2} for s in (50, 99)]
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + '\n{"step": 10')
        folders.append(folder)
    return folders


def words(page):
    """What a reader sees, without style, script and tags."""
    page = re.sub(r"<(style|script)\b.*?</\1>", " ", page, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_one_file_holds_everything_and_asks_for_nothing(runs):
    path = write_report(runs[0])
    assert path == runs[0] / "report.html"
    page = path.read_text()
    assert not re.search(r"https?://|src=[\"'](?!data:)|<link|@import|url\(", page)
    for title in ("Results", "Classes", "Training", "Images", "Confusion", "Calibration", "Robustness", "Run"):
        assert f"<h2>{title}</h2>" in page
    seen = words(page)
    assert "slide 32 stride 21" in seen and "3 of 4 images" in seen and "adapter rein" in seen and "Worst" in seen and "Best" in seen
    assert page.count("<svg") == page.count("</svg>") >= 10
    assert "prefers-color-scheme: dark" in page and "width=device-width" in page


def test_names_cannot_break_the_page(runs):
    page = write_report(runs[0]).read_text()
    assert "<b>rein" not in page and "rein &lt;b&gt;" in page and "town &amp; &lt;i&gt;co" in page and "<i>co</i>" not in page
    stores = re.findall(r'<script type="application/json" id="([^"]+)">(.*?)</script>', page, re.S)
    assert len(stores) == 2
    for anchor, body in stores:
        data = json.loads(body)
        assert all(set(item) == {"image", "truth", "prediction", "error"} for item in data)
        assert len(re.findall(f'data-shot="{re.escape(anchor)}#', page)) == len(data) > 0


def test_numbers_of_the_table_are_those_of_results_json(runs):
    page, found = write_report(runs[0]).read_text(), load_results(runs[0])
    for entry in found.domains.values():
        assert f"<td class=\"best\">{entry['mIoU']:.2f}</td>" in page
        assert all(f'title="{value:.2f}"' in page for value in entry["IoU"].values() if value is not None)


def test_random_weights_are_said_first(runs):
    seen = words(write_report(runs[1]).read_text())
    assert seen.index("random backbone weights") < seen.index("Results")


def test_runs_are_compared_with_intervals(runs, tmp_path, capsys):
    assert main([*map(str, runs), "--out", str(tmp_path / "both.html"), "--table", "markdown"]) == 0
    assert "| domain | images |" in capsys.readouterr().out
    page = (tmp_path / "both.html").read_text()
    seen = words(page)
    assert "2 runs compared" in seen and "Paired bootstrap" in seen and "freeze minus rein" in seen
    assert "must not be compared" not in seen and page.count('class="whisker"') == 2
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_a_run_measured_later_is_reported_by_its_folder(runs, tmp_path):
    later = tmp_path / "run" / "eval"
    shutil.copytree(runs[0] / "evaluation", later / "full")
    (tmp_path / "run" / "results.json").write_text('{"steps": 1, "evaluation": {}}')
    assert write_report(tmp_path / "run") == tmp_path / "run" / "report.html"
    shutil.copytree(runs[0] / "evaluation", later / "other")
    with pytest.raises(UserError, match="measured in several ways.*full, .*other"):
        write_report(tmp_path / "run")


def test_runs_measured_differently_are_marked_and_twins_get_numbers(runs, tmp_path):
    evaluate(FakeModel(), {"city": FakeSource(3)}, out=tmp_path / "whole", mode="whole", progress=False, facts={"name": "freeze"})
    seen = words(write_report([runs[1], tmp_path / "whole"], tmp_path / "x.html").read_text())
    assert "must not be compared" in seen and "freeze (2)" in seen


def test_a_class_and_a_domain_without_pixels_are_absent_before_saving_too(tmp_path):
    class Part(FakeSource):
        kept = (0, 1, 2)

        def __getitem__(self, i):
            element = super().__getitem__(i)
            return {**element, "label": np.where(np.isin(element["label"], self.kept), element["label"], 255).astype(np.uint8)}

    class Void(Part):
        kept = ()

    class Three(FakeModel):
        def scores(self, images, size=None):
            return super().scores(images, size).at[..., 3].set(-9.0)

    found = evaluate(Three(), {"part": Part(2), "void": Void(2)}, out=tmp_path, corruptions="contrast", severities=[1], **HOW)
    assert np.isnan(found.domains["part"]["IoU"]["tree"]) and np.isnan(found.domains["void"]["mIoU"])
    unsaved = write_report(found).read_text()
    assert "nan" not in words(unsaved).lower() and '"nan"' not in unsaved and "absent" in unsaved
    assert write_report(tmp_path).read_text() == unsaved
    assert "nan" not in words(write_report([found, found], tmp_path / "two.html").read_text()).lower()


def test_json_of_a_run_has_null_for_numbers_that_do_not_exist(tmp_path):
    value = {"a": float("nan"), "b": [1, 0.1, np.float32(0.1), float("inf")], "c": {"d": "NaN", "e": None, "f": True}, "g": np.nan}
    write_json(tmp_path / "x.json", value)
    known = {"a": None, "b": [1, 0.1, float(np.float32(0.1)), None], "c": {"d": "NaN", "e": None, "f": True}, "g": None}
    assert (tmp_path / "x.json").read_text() == json.dumps(known, indent=1) + "\n"
    assert headline({"mean": {"mIoU": float("nan")}}) is None and headline({"mean": {"mIoU": 1}}) == 1.0


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no results.json"):
        write_report(tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        write_report(tmp_path)
    (tmp_path / "results.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(UserError, match=re.escape(FORMAT)):
        write_report(tmp_path)
    with pytest.raises(UserError, match="no run"):
        write_report([])


def test_ticks_are_round_and_labels_short():
    assert charts.ticks(0, 100) == [0, 20, 40, 60, 80, 100] and charts.ticks(0.13, 0.87, 4) == [0.2, 0.4, 0.6, 0.8]
    assert charts.ticks(3, 3) == [3]
    assert [charts.label(v) for v in (0, 2.5e-05, 1e-4, 40000, 0.25, 2e7)] == ["0", "2.5e-5", "1e-4", "40k", "0.25", "2e7"]
    lines = ENVIRONMENT.get_template("charts.html").module.lines
    assert lines(charts.Lines([charts.Line([], "red")], x="a", y="b")).strip() == ""
    single = lines(charts.Lines([charts.Line([(1, 5.0)], "red")], x="a", y="b"))
    assert "nan" not in single and "<circle" in single


def test_markup_stands_in_templates_alone():
    """Python files prepare values; templates, where all of them are escaped, write the page. The wheel carries templates and style."""
    package = Path(page_of.__file__).parent
    for file in (*package.glob("*.py"), *package.parent.glob("*.py")):
        assert "</" not in file.read_text(), f"{file.name} writes markup"
    assert not [file.name for file in package.glob("templates/*") if re.search(r"\|\s*safe\b|Markup", file.read_text())]
    patterns = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    shipped = {file for pattern in patterns["rein_jax.reporting.page"] for file in package.glob(pattern)}
    assert shipped == {file for folder in ("static", "templates") for file in (package / folder).iterdir()} and len(shipped) >= 6


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_the_page_runs_in_a_browser(runs, tmp_path):
    path = write_report(runs[0])
    with closing(Page(tmp_path)) as page:
        page.call("Page.navigate", url=f"file://{path}")
        page.until("location.protocol === 'file:' && document.readyState === 'complete'")
        page.run("document.querySelector('.shot').scrollIntoView()")  # panels are made when they come into view
        page.until("[...document.querySelectorAll('.shot')].some(shot => shot.querySelectorAll('figure').length === 4)")
        assert page.run("document.documentElement.classList.contains('live')")
        assert page.run("document.querySelectorAll('[aria-selected=true]').length") >= 2
        assert page.run("[...document.querySelectorAll('.shot')].every(shot => [0, 7].includes(shot.querySelectorAll('img').length))")

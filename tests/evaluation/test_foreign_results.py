"""A run folder from a stranger: each value of results.json, config.json, metrics.jsonl and of the counts and pictures beside them is of
its kind, or is refused by the name of its file and key; and no text becomes markup."""

import io
import json
import os
import re
import shutil
import zipfile

import numpy as np
import pytest
from fakes import FakeModel, FakeSource
from PIL import Image

from data_pipelines.errors import DataError
from data_pipelines.labels import ClassInfo
from rein_jax.cli.main import main
from rein_jax.errors import UserError
from rein_jax.evaluation.evaluator import evaluate
from rein_jax.metrics.accumulator import MetricAccumulator
from rein_jax.reporting import load_results, report, results, robustness, write_report
from rein_jax.reporting.runs import open_run
from tests.hostile import SCRIPT, assert_harmless, changed, places
from tests.use import chromium

WRONG = [SCRIPT, "5", None, [], {"x": SCRIPT}, True, -1, 999, 10**400, float("nan"), float("inf"), "\ud800\x1b[2J\u202e", ...]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with everything that a report can show."""
    folder = tmp_path_factory.mktemp("run")
    facts = {"name": "run", "path": str(folder), "weights": {"name": "vit", "source": "random"}, "step": 3,
             "config": {"adapter": {"name": "rein"}, "head": {"name": "fpn"}}}
    evaluate(FakeModel(), {"town": FakeSource(2, broken=[1])}, out=folder / "evaluation", facts=facts, boundary=True, crop=32, stride=21,
             corruptions="contrast", severities=[1], panels=1, progress=False)
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "kind": "train", "loss": 2.0, "lr": 1e-4}) + "\n")
    return folder


@pytest.fixture(scope="module")
def data(run):
    return json.loads((run / "evaluation/results.json").read_text())


@pytest.fixture(scope="module")
def page(run):
    return write_report(run).read_text()


def written(folder, data):
    (folder / "results.json").write_text(json.dumps(data))
    return folder


def answer(folder, data, known):
    """The sentence about a results.json, or None for one that gives a page; nothing else may happen."""
    try:
        made = report.page([open_run(written(folder, data))])
        found = load_results(folder, accumulators=False)
        assert all(found.table(style) for style in ("text", "markdown", "csv", "latex"))
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000 and str(folder / "results.json") in str(error)
        return str(error)
    assert_harmless(made, known)
    return None


def test_every_value_of_every_other_kind_gives_a_sentence_or_a_harmless_page(data, page, tmp_path):
    refused = {}
    for place in places(data):
        for value in WRONG:
            said = answer(tmp_path, changed(data, place, value), page)
            refused[place] = refused.get(place, 0) + (said is not None)
    unseen = {"speed", "fingerprint", "ratio", "mce", "published", "left_out", "skipped", "exact"}  # or nearly anything is taken
    shown = [place for place in refused if place[0] in ("classes", "palette", "domains", "mean") and not unseen & set(place)
             and place[-1] != "pixels" and place[:2] != ("mean", "domains")]
    assert len(shown) > 50 and not [place for place in shown if refused[place] < 4]


@pytest.mark.parametrize(("place", "value", "sentence"), [
    ("palette.0.0", SCRIPT, "palette[0] is ["), ("palette.1", "red", "palette[1] is 'red'"), ("palette.0.0", 999, "palette[0]"),
    ("palette.0.0", -1, "palette[0]"), ("palette.0.0", 1.5, "palette[0]"), ("palette.0.0", True, "palette[0]"),
    ("palette.0", [1, 2], "palette[0]"), ("palette", [[1, 2, 3]], "palette does not fit"), ("palette", {}, "palette is {}"),
    ("classes", "road", "classes is 'road'"), ("classes.0", 7, "classes[0] is 7"), ("classes.0", "car", "classes does not fit"),
    ("classes.0", "else", "domains.town.IoU does not fit"), ("classes", ..., "has no classes"), ("domains", [], "domains is []"),
    ("domains", {}, "domains does not fit"), ("domains.town", 5, "domains.town is 5"),
    ("domains.town.mIoU", "50.0", "domains.town.mIoU is '50.0'"), ("domains.town.mIoU", float("nan"), "mIoU is nan"),
    ("domains.town.mIoU", float("inf"), "domains.town.mIoU is inf"), ("domains.town.mIoU", 1e9, "mIoU is 1000000000.0"),
    ("domains.town.mIoU", 10**400, "domains.town.mIoU is 1000"), ("domains.town.mIoU", [50], "domains.town.mIoU is [50]"),
    ("domains.town.mIoU", ..., "has no domains.town.mIoU"), ("domains.town.IoU.car", SCRIPT, "domains.town.IoU.car"),
    ("domains.town.IoU.car", ..., "domains.town.IoU does not fit"), ("domains.town.images", 7, "town.images does not fit"),
    ("domains.town.images", -1, "domains.town.images is -1"), ("domains.town.of", "2", "domains.town.of is '2'"),
    ("domains.town.skipped", None, "skipped is None"), ("domains.town.skipped.0.why", 5, "skipped[0].why is 5"),
    ("domains.town.confusion.0.0", -5, "confusion[0][0] is -5"), ("domains.town.confusion.0", [1], "confusion does not fit"),
    ("domains.town.confusion", [], "confusion does not fit"), ("domains.town.calibration.ece", None, "ece is None"),
    ("domains.town.calibration.pixels", [1], "calibration does not fit"), ("mean", ..., "has no mean"),
    ("domains.town.conditions.fog.mIoU", "x", "conditions.fog.mIoU"), ("domains.town.conditions", 3, "conditions is 3"),
    ("domains.town.boundary", 3, "boundary is 3"), ("domains.town.dataset", {}, "dataset is {}"), ("mean.mIoU", "x", "mean.mIoU"),
    ("protocol.text", 5, "protocol.text"), ("versions.jax", None, "versions.jax"), ("versions", ..., "has no versions"),
    ("created", 5, "created is 5"), ("model.name", ["x"], "model.name"), ("model.path", 5, "model.path"),
    ("model.parameters", "many", "model.parameters"), ("model.config", "x", "model.config"),
    ("model.config.adapter", "rein", "model.config.adapter"), ("model.random_weights", "no", "model.random_weights"),
    ("robustness.town.corruptions.contrast.mIoU", {"x": 5}, "mIoU does not fit"), ("robustness.town.clean", "x", "robustness.town.clean"),
    ("robustness.town.families", [], "families is []"), ("format", "rein_jax/evaluation/2", "is not a result of this version"),
    ("format", None, "is not a result of this version"),
])
def test_the_sentence_names_the_file_and_the_key(data, page, tmp_path, place, value, sentence):
    assert sentence in answer(tmp_path, changed(data, place, value), page)


@pytest.mark.parametrize(("text", "sentence"), [
    ('{"format": 1e999}', "not a result"), ("[" * 100_000, "damaged"), ('{"a":' * 600 + "1" + "}" * 600, "nested too deeply"),
    ("9" * 5000, "damaged"), ("null", "not an object"), ("", "damaged"), ('{"format": "rein_jax/evaluation/1"}', "has no created"),
])
def test_what_is_no_result_at_all(tmp_path, text, sentence):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(UserError, match=sentence):
        write_report(tmp_path)


def test_hostile_names_stay_text_in_page_and_tables(run, data, page, tmp_path, capsys):
    """Class, domain, condition, run, file, corruption and config names; a comparison too."""
    text = json.dumps(data)
    for name in ("town", "fog", "road", "contrast", "digital", "rein", "fpn", "random", "run", "fake", "val"):
        text = text.replace(json.dumps(name), json.dumps(SCRIPT + name))
    hostile = json.loads(text)
    hostile["robustness"][SCRIPT + "town"]["corruptions"][SCRIPT + "contrast"]["family"] = SCRIPT + "digital"
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        written(folder, hostile)
        accumulator = MetricAccumulator("key", 2, 4)
        for i in range(2):
            accumulator.put(i, f"{SCRIPT}{i}", SCRIPT, {"matrix": np.eye(4, dtype=np.uint32) * (i + 1)})
        file = results.image_file(folder, SCRIPT + "town")
        file.parent.mkdir()
        file.write_bytes(accumulator.to_bytes())
        row = {"step": 1, "kind": "eval", f"{SCRIPT}/mIoU": 2, "loss": None, SCRIPT: SCRIPT}
        (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    assert main(["report", str(one), "--out", str(tmp_path / "one.html")]) == 0
    assert main(["report", str(one), str(two), "--out", str(tmp_path / "two.html"), "--table", "markdown"]) == 0
    assert not re.search(r"(?<!\\)<script", capsys.readouterr().out)
    assert_harmless((tmp_path / "one.html").read_text(), page)
    assert_harmless((tmp_path / "two.html").read_text(), write_report([run, run], tmp_path / "known.html").read_text())


def test_names_that_steer_a_terminal_are_written_out(data, tmp_path, capsys):
    text = json.dumps(data).replace('"town"', json.dumps("\x1b[2J\u202etown\ud800"))
    (tmp_path / "results.json").write_text(text)
    assert main(["report", str(tmp_path), "--table", "text"]) == 0
    out = capsys.readouterr().out
    assert "\\x1b[2J\\u202etown\ufffd" in out and "\x1b" not in out and "\u202e" not in out


@pytest.mark.parametrize("style", ["csv", "latex", "markdown"])
def test_names_are_no_commands_of_a_spreadsheet_or_of_tex(data, tmp_path, style):
    name = {"csv": "=HYPERLINK(1)", "latex": r"\input{/etc/passwd}~^", "markdown": "a|b](c)<i>"}[style]
    (tmp_path / "results.json").write_text(json.dumps(data).replace('"town"', json.dumps(name)))
    table = load_results(tmp_path).table(style)
    assert {"csv": "'=HYPERLINK(1)", "latex": r"\textbackslash{}input\{/etc/passwd\}\textasciitilde{}\textasciicircum{}",
            "markdown": r"a\|b\](c)\<i>"}[style] in table


def test_a_name_of_any_length_has_a_file(data, tmp_path):
    assert results.safe("acdc/fog-1.0=x") == "acdc_fog-1.0=x" and results.safe("..") == "__" and results.safe("") == "_"
    long = "ä" * 1000
    assert len(results.safe(long).encode()) <= 200 and results.safe(long) != results.safe(long + "b")
    (tmp_path / "results.json").write_text(json.dumps(data).replace('"town"', json.dumps(long)))
    assert write_report(tmp_path).is_file()


@pytest.mark.parametrize("path", ["/" + "x" * 5000, "/proc/self/mem", "\0", "~nobody", ""])
def test_a_path_that_is_none_is_passed_over(data, tmp_path, path):
    assert write_report(written(tmp_path, changed(data, "model.path", path))).is_file()


@pytest.mark.parametrize(("row", "sentence"), [
    ({"step": "1"}, "step is '1'"), ({"step": 1, "loss": SCRIPT}, "loss is"), ({"step": 1, "loss": [1]}, "loss is"),
    ({"step": float("inf"), "loss": 1}, "step is inf"), ({"step": 1, "lr": float("nan")}, "lr is nan"), 
    ({"step": 10**400}, "step is 1000"),
    ({"step": 1, "town/mIoU": {}}, "town/mIoU is {}"), ({"step": 1, "loss": 1e300}, "loss is 1e+300"),
    ({"step": 1, "kind": []}, "kind is []"),
])
def test_a_log_with_other_values_is_named_with_its_line(data, tmp_path, row, sentence):
    written(tmp_path, data)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n' + json.dumps(row) + "\n")
    with pytest.raises(UserError) as error:
        write_report(tmp_path)
    assert f"{tmp_path / 'metrics.jsonl'}, line 2: {sentence}" in str(error.value)


def test_a_log_that_is_damaged_is_read_as_far_as_it_goes(data, page, tmp_path):
    written(tmp_path, data)
    rows = [json.dumps({"step": i, "kind": "train", "loss": value, "lr": None, "note": SCRIPT}) for i, value in enumerate((1e38, -1e38, 0))]
    (tmp_path / "metrics.jsonl").write_bytes("\n".join(["null", "[1]", "3", "[" * 100_000, *rows, '{"step": nu']).encode() + b"\xff\xfe\n")
    made = write_report(tmp_path).read_text()
    assert_harmless(made, page)
    assert "<h2>Training</h2>" in made and "nan" not in made.split("<h2>Training</h2>")[1].split("</section>")[0]


@pytest.mark.parametrize(("config", "sentence"), [
    ({"adapter": SCRIPT}, "adapter is"), ({"head": [1]}, "head is [1]"), ([1], "not an object"), ("x", "not an object"),
])
def test_a_config_of_another_form_is_named(data, tmp_path, config, sentence):
    written(tmp_path, changed(data, "model.config", ...))
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError) as error:
        write_report(tmp_path)
    assert str(tmp_path / "config.json") in str(error.value) and sentence in str(error.value)


def packed(**arrays):
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def counts(**changes):
    accumulator = MetricAccumulator("key", 2, 4)
    with np.load(io.BytesIO(accumulator.to_bytes())) as file:
        return packed(**({name: file[name] for name in file} | changes))


@pytest.mark.parametrize("content", [
    b"", b"PK", b"no zip", packed(x=np.zeros(1)), counts(names=np.array("[1, 2]")), counts(names=np.array("{}")),
    counts(names=np.array("[")),
    counts(matrices=np.zeros((2, 3, 3), np.uint32)), counts(matrices=np.full((2, 4, 4), -1.5)), counts(done=np.zeros(3, bool)),
    counts(classes=np.array(5)), counts(classes=np.array("x")), counts(skipped=np.array("[]")), counts(skipped=np.array('{"x": 1}')),
    counts(calibration=np.zeros((2, 7, 2), np.uint32)),
    MetricAccumulator("key", 3, 4).to_bytes(), MetricAccumulator("key", 2, 5).to_bytes(),
], ids=range(17))
def test_counts_of_single_images_that_are_none(data, tmp_path, content):
    written(tmp_path, data)
    file = results.image_file(tmp_path, "town")
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        write_report(tmp_path)
    assert load_results(tmp_path, accumulators=False).domains


def test_counts_that_would_fill_the_memory(data, tmp_path, monkeypatch):
    written(tmp_path, data)
    file = results.image_file(tmp_path, "town")
    file.parent.mkdir()
    out = io.BytesIO(counts())
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("more.npy", bytes(2**20))
    file.write_bytes(out.getvalue())
    monkeypatch.setattr(results, "MOST", 2**20)
    with pytest.raises(UserError, match="it unpacks to 1 MiB"):
        write_report(tmp_path)


def picture(form, size=(8, 8), mode="P"):
    out = io.BytesIO()
    Image.new(mode, size).save(out, form)
    return out.getvalue()


@pytest.mark.parametrize(("part", "content", "sentence"), [
    ("image.jpg", b"<svg onload=alert(1)>", "is an SVG|cannot be decoded"), ("image.jpg", picture("PNG"), "format PNG"),
    ("truth.png", b"%!PS-Adobe-3.0 EPSF-3.0\n", "truth.png"), ("truth.png", b"", "cannot be decoded"),
    ("truth.png", picture("PNG", mode="RGB"), "not a PNG with a palette"), ("prediction.png", picture("PNG", (3, 3)), "another size"),
    ("prediction.png", picture("PNG")[:60], "damaged|decoded"),
])
def test_pictures_that_are_none_are_named(run, tmp_path, part, content, sentence):
    copied = shutil.copytree(run, tmp_path / "run")
    next((copied / "evaluation/panels/town").glob(f"*.{part}")).write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        write_report(copied)
    assert main(["report", str(copied)]) == 2


def test_a_stray_file_among_the_pictures_is_passed_over(run, tmp_path):
    copied = shutil.copytree(run, tmp_path / "run")
    for name in ("x.prediction.png", "-1.prediction.png", "²²²²²².prediction.png", f"{'9' * 40}.prediction.png"):
        (copied / "evaluation/panels/town" / name).write_bytes(b"x")
    assert write_report(copied).is_file()


def test_pipes_in_place_of_files_are_not_waited_for(run, tmp_path):
    for name in ("evaluation/results.json", "evaluation/images/town.npz", "metrics.jsonl", "config.json", "000000.image.jpg"):
        copied = shutil.copytree(run, tmp_path / name.replace("/", "-"))
        file = next(copied.rglob(name)) if name.endswith("jpg") else copied / name
        file.unlink(missing_ok=True)
        os.mkfifo(file)
        if name.endswith(("results.json", "jpg")):
            with pytest.raises((UserError, DataError), match=re.escape(file.name)):
                write_report(copied)
        else:
            assert write_report(copied).is_file()


@pytest.mark.parametrize("name", ["images", "mIoU", "domain", "mean", "- fog", "ECE"])
def test_classes_called_like_columns(data, tmp_path, name):
    """Once the table for the terminal was cut at the column of the same name."""
    (tmp_path / "results.json").write_text(json.dumps(data).replace('"road"', json.dumps(name)))
    lines = load_results(tmp_path).table("text").splitlines()
    assert lines[0].split() == ["domain", "images", "mIoU", "mAcc", "aAcc", "bIoU", "ECE"]
    assert len([line for line in lines if line.startswith(name + "  ")]) == 1 + (name in ("domain", "- fog"))


@pytest.mark.browser
def test_long_names_are_cut_but_kept(data, tmp_path):
    long = "crosswalk " * 60
    text = json.dumps(data).replace('"road"', json.dumps(long)).replace('"town"', json.dumps(long))
    (tmp_path / "results.json").write_text(text)
    made = write_report(tmp_path)
    assert made.read_text().count(f'title="{long}"') == 2
    if chromium.BROWSER is None:
        pytest.skip("no Chromium on this machine")
    page = chromium.Page(tmp_path / "profile")
    try:
        page.call("Emulation.setDeviceMetricsOverride", width=400, height=900, deviceScaleFactor=1, mobile=False)
        page.call("Page.navigate", url=f"file://{made}")
        page.until("document.readyState == 'complete' && document.documentElement.className == 'live'")
        assert page.run("document.documentElement.scrollWidth") <= 400
        assert page.run("document.querySelector('tbody td').offsetWidth") <= 180
        assert page.run("document.querySelector('thead').offsetHeight") <= 260
    finally:
        page.close()


def test_runs_of_other_classes_are_not_subtracted(run, data, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    (other / "evaluation/results.json").write_text(json.dumps(data).replace('"road"', '"street"'))
    page = write_report([run, other], tmp_path / "page.html").read_text()
    assert "Paired bootstrap" not in page and "By class" not in page
    assert "Paired bootstrap" in write_report([run, run], tmp_path / "page.html").read_text()


@pytest.mark.parametrize("colour", [("red", 0, 0), (999, 0, 0), (0, 0, -1), (0.5, 0, 0), (1, 2), (0, 0, None)])
def test_classes_have_colours_before_anything_is_written(colour):
    with pytest.raises(DataError, match="The colour of class 'car' is .*three whole numbers"):
        ClassInfo(("road", "car"), ((0, 0, 0), colour))


@pytest.mark.parametrize(("place", "value", "sentence"), [
    ("robustness.town.clean", "x", "robustness.town.clean is 'x'"),
    ("robustness.town.corruptions.contrast.mIoU", {}, "was not measured under"),
    ("robustness", ..., "holds no corruptions"), ("robustness.town.corruptions.contrast.mIoU.1", 10**400, "mIoU.1 is 1000"),
])
def test_a_foreign_reference_is_checked(data, tmp_path, place, value, sentence):
    written(tmp_path, changed(data, place, value))
    how = {"corruptions": "contrast", "severities": [1], "crop": 32, "stride": 21, "progress": False}
    with pytest.raises(UserError) as error:
        evaluate(FakeModel(), {"town": FakeSource(1)}, reference=tmp_path, **how)
    assert sentence in str(error.value)


def test_a_reference_without_a_number_gives_none(data):
    found = data["robustness"]["town"]
    assert robustness.against(found, found)["CD"] == pytest.approx(100)
    for place in ("clean", "corruptions.contrast.mIoU.1"):
        key = tuple(place.split("."))
        assert robustness.against(found, changed(found, key, None))["rCD"] is None


@pytest.mark.browser
def test_hostile_names_run_nothing_in_a_browser(run, data, tmp_path):
    if chromium.BROWSER is None:
        pytest.skip("no Chromium on this machine")
    copied = shutil.copytree(run, tmp_path / "run")
    text = json.dumps(data)
    for name in ("road", "car", "contrast", "run", "fog", "fake", "rein"):
        text = text.replace(json.dumps(name), json.dumps(SCRIPT + name))
    (copied / "evaluation/results.json").write_text(text)
    made = write_report([copied, run], tmp_path / "page.html")
    page = chromium.Page(tmp_path / "profile")
    try:
        page.call("Page.navigate", url=f"file://{made}")
        page.until("document.readyState == 'complete' && document.documentElement.className == 'live'")
        page.run("document.querySelectorAll('.shot').forEach(fill)")
        page.until("document.querySelectorAll('.panels img').length > 0 && [...document.images].every(i => i.complete && i.naturalWidth)")
        assert page.run("typeof ran") == "undefined"
        assert page.run("[...document.scripts].filter(s => s.type != 'application/json').length") == 1
        assert page.run("[...document.querySelectorAll('*')].filter(e => [...e.attributes].some(a => a.name.startsWith('on'))).length") == 0
    finally:
        page.close()

"""`rein tables` on run folders from strangers: a sentence that names file and key, or a table in which no name is markup."""

import json
import re

import pytest

from rein_jax.cli.main import main
from rein_jax.errors import UserError
from rein_jax.experiments import runs, tables
from tests.experiments.made import make_run
from tests.hostile import SCRIPT, changed, places

WRONG = [SCRIPT, "5", None, [], ["x"], {}, {"x": SCRIPT}, True, -1, 10**400, float("nan"), float("inf"), ...]
KEYS = {"name", "seed", "train", "trainable", "augment", "backbone", "adapter", "head", "data", "eval"}


@pytest.fixture
def run(tmp_path):
    numbers = {"camvid": 70.0, "acdc_fog": 50.0}
    return make_run(tmp_path / "run", "configs/camvid_dinov2s.py", numbers, conditions={"camvid": {"dusk": 60.0}})


@pytest.mark.parametrize("name", ["config.json", "evaluation/results.json", "results.json"])
def test_every_value_of_every_other_kind_gives_a_sentence_or_a_plain_table(run, name):
    if name == "results.json":
        (run / "evaluation/results.json").unlink()
    file = run / name
    data = json.loads(file.read_text())
    said = 0
    for place in places(data):
        if name == "config.json" and place[0] not in KEYS:
            continue
        for value in WRONG:
            file.write_text(json.dumps(changed(data, place, value)))
            try:
                found, _ = runs.find([run])
                written = [tables.render(sheet, style) for sheet in tables.comparisons(found) for style in tables.STYLES]
            except UserError as error:
                assert str(file) in str(error) and "\n" not in str(error)
                said += 1
            else:
                html = "".join(text for text in written if text.startswith("<table>"))
                assert not re.search(r"<(?!/?(table|caption|br|thead|tbody|tr|th|td)>)", html)
    assert said > 30


@pytest.mark.parametrize(("file", "place", "value", "sentence"), [
    ("config.json", "train.steps", "9", "train.steps is '9'"), ("config.json", "train", ..., "has no train"),
    ("config.json", "data.crop", [512], "data.crop is [512]"), ("config.json", "data.train", {}, "data.train is {}"),
    ("config.json", "data.train.0.name", 5, "data.train[0].name is 5"), ("config.json", "backbone.name", None, "backbone.name is None"),
    ("config.json", "trainable", "head/", "trainable is 'head/'"), ("config.json", "seed", 1e300, "seed is 1e+300"),
    ("config.json", "eval.domains", ["x"], "eval.domains[0] is 'x'"), ("config.json", "name", ["x"], "name is ['x']"),
    ("evaluation/results.json", "domains.camvid.mIoU", "70", "domains.camvid.mIoU is '70'"),
    ("evaluation/results.json", "domains.camvid.mIoU", float("nan"), "domains.camvid.mIoU is nan"),
    ("evaluation/results.json", "domains.camvid.mIoU", float("inf"), "domains.camvid.mIoU is inf"),
    ("evaluation/results.json", "domains.camvid.mIoU", ..., "has no domains.camvid.mIoU"),
    ("evaluation/results.json", "domains", ["x"], "domains is ['x']"), ("evaluation/results.json", "model", "x", "model is 'x'"),
    ("evaluation/results.json", "domains.camvid.conditions.dusk.mIoU", 1000, "conditions.dusk.mIoU is 1000"),
    ("results.json", "evaluation", "x", "evaluation is 'x'"),
    ("results.json", "evaluation.domains.camvid", 5, "evaluation.domains.camvid is 5"),
])
def test_the_sentence_names_the_file_and_the_key(run, capsys, file, place, value, sentence):
    if file == "results.json":
        (run / "evaluation/results.json").unlink()
    data = json.loads((run / file).read_text())
    (run / file).write_text(json.dumps(changed(data, place, value)))
    assert main(["tables", str(run)]) == 2
    message = capsys.readouterr().err
    assert str(run / file) in message and sentence in message and message.count("\n") == 1


@pytest.mark.parametrize("evaluation", [
    "x", 5, [1], {"domains": "x"}, {"domains": {"town": "x"}}, {"domains": {"town": {"mIoU": 10**400}}}, {"domains": ["x"]},
    {"domains": {"town": {"mIoU": float("nan"), "mAcc": SCRIPT}}}, {"domains": {SCRIPT + "\x1b[2J": {"mIoU": 5}}}, {"mean": "x"}, None,
])
def test_runs_from_strangers_are_compared_or_refused_in_one_sentence(tmp_path, capsys, evaluation):
    for name, found in (("a", evaluation), ("b", {"mean": {"mIoU": 1.0}})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"name": SCRIPT, "x": [float("inf"), "\x1b[2J", name]}))
        (tmp_path / name / "results.json").write_text(json.dumps({"steps": 1, "evaluation": found}))
    code = main(["diff", str(tmp_path / "a"), str(tmp_path / "b")])
    out, err = capsys.readouterr()
    assert code in (0, 2) and err.count("\n") == (code == 2) and "\x1b" not in out + err and "nan" not in out


def test_hostile_names_are_text_in_every_format(run):
    text = (run / "config.json").read_text()
    config = json.loads(text)
    config["name"] = config["data"]["train"][0]["name"] = SCRIPT + "\x1b[2J"
    (run / "config.json").write_text(json.dumps(config))
    file = run / "evaluation/results.json"
    file.write_text(file.read_text().replace('"camvid"', json.dumps(SCRIPT)).replace('"acdc_fog"', '"=1+1"'))
    found, _ = runs.find([run])
    made = {style: tables.render(tables.comparisons(found)[0], style) for style in tables.STYLES}
    assert "<script" not in made["html"] and "&lt;script&gt;" in made["html"] and "\x1b" not in made["text"]
    assert not re.search(r"(?<!\\)<", made["md"]) and "'=1+1" in made["csv"] and "\n=" not in made["csv"]

"""The notebooks run from top to bottom, with tiny backbones and few images; they open in Colab and use public names alone."""

import ast
import json
import re
from pathlib import Path

import pytest

import rein_jax
from tests.use import tiny  # noqa: F401  (registers dinov2_tiny)

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
HEAD = {"head.channels": 16, "head.heads": 2, "head.groups": 4, "head.num_queries": 20, "adapter.query_dims": 16, "adapter.num_tokens": 20}
RUN = {"train.batch": 2, "backbone.name": "dinov2_tiny", "backbone.weights": "random", "data.resize": "none", "data.threads": 1,
       "data.workers": 0, "eval.stride": 64, **HEAD}  # fmt: skip
# The values that each notebook's cell of parameters is given here.
SMALL = {
    "quickstart": {"steps": 2, "images": 1, "changes": {"backbone.image_size": 64, "data.crop": (64, 64), "eval.crop": 64, **RUN}},
    "own_data": {"steps": 2, "crop": 64, "scenes": 10, "size": (64, 128), "changes": RUN},
    "own_loop": {"backbone_name": None, "crop": 64, "batch_size": 2, "steps": 3, "images": 1},
}


def cells(name: str) -> list[dict]:
    found = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in found]


def test_every_notebook_is_walked():
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_opens_in_colab_installs_and_needs_public_names_only(name):
    title, install, *others = cells(name)
    assert f"https://colab.research.google.com/github/OWNER/rein_jax/blob/main/notebooks/{name}.ipynb" in title["source"]
    assert "pip" in install["source"] and 'find_spec("rein_jax") is None' in install["source"]
    code = "\n".join(cell["source"] for cell in others if cell["cell_type"] == "code")
    imported = {node.module for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)}
    assert "import rein_jax as rj" in code and not {module for module in imported if module.startswith(("rein_jax", "data_pipelines"))}
    assert set(re.findall(r"\brj\.(\w+)", code)) <= set(rein_jax.__all__)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "figures", "words", "files"), [
    ("quickstart", 2, ["night"], ["runs/notebook/model.safetensors"]),
    ("own_data", 2, ["classes: road, sidewalk", "mIoU on the validation images"],
     ["runs/own_data/report.html", "predictions/overlay/first.png"]),
    ("own_loop", 2, ["step 2: loss", "night"], ["runs/own_loop/model.safetensors"]),
])  # fmt: skip
def test_a_notebook_runs(name, figures, words, files, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "__notebook__"}
    for cell in cells(name):
        if cell["cell_type"] == "code":
            exec(compile(cell["source"], f"{name} {cell['id']}", "exec"), names)
            if "parameters" in cell["metadata"].get("tags", ()):
                names.update(SMALL[name])
    printed, shown = capsys.readouterr().out, len(pyplot.get_fignums())
    pyplot.close("all")
    assert shown == figures and all(word in printed for word in words)
    assert all((tmp_path / file).exists() for file in files)

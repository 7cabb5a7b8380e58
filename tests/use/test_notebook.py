"""notebooks/quickstart.ipynb runs from top to bottom, with the tiny backbone and few images."""

import json
from pathlib import Path

import pytest

from tests.use import tiny  # noqa: F401  (registers dinov2_tiny)

NOTEBOOK = Path(__file__).parents[2] / "notebooks/quickstart.ipynb"
SMALL = {"steps": 2, "images": 1, "changes": {
    "train.batch": 2, "backbone.name": "dinov2_tiny", "backbone.weights": "random", "backbone.image_size": 64, "data.crop": (64, 64),
    "data.resize": "none", "data.threads": 1, "data.workers": 0, "eval.crop": 64, "eval.stride": 64, "head.channels": 16, "head.heads": 2,
    "head.groups": 4, "head.num_queries": 20, "adapter.query_dims": 16, "adapter.num_tokens": 20}}  # fmt: skip


@pytest.mark.slow
def test_notebook_runs(tmp_path, monkeypatch, capsys):
    plt = pytest.importorskip("matplotlib")
    plt.use("Agg")
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    names: dict = {"__name__": "__notebook__"}
    for cell in cells:
        exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
        if "parameters" in cell["metadata"].get("tags", ()):
            names.update(SMALL)
    assert "night" in capsys.readouterr().out and (tmp_path / "runs/notebook/model.safetensors").exists()
    from matplotlib import pyplot

    assert len(pyplot.get_fignums()) == 2
    pyplot.close("all")

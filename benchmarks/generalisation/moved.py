"""How far training moved the backbone: adds to moved.json the change of its weights in per cent of their norm, whole and by part.

    python benchmarks/generalisation/moved.py full=runs/full full_16th=runs/full_16th

The weights a run began from are read as its config says (the cached pretrained file), those it ended with from its model.safetensors.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from safetensors.numpy import load_file  # noqa: E402

from rein_jax import build, configuration, datasets  # noqa: E402


def moved(run: Path) -> dict[str, float]:
    """{"backbone": per cent, "attn": ..., "mlp": ..., ...}; weights that did not train are not counted."""
    config = configuration.load(str(run / "config.json"))
    classes = datasets.open_entry(config.data.train[0], config.data.root).classes
    _, trainable, frozen, _ = build.build_params(config, classes)
    first, squares = {**trainable, **frozen}, defaultdict(lambda: np.zeros(2))
    for name, last in load_file(run / "model.safetensors").items():
        tree, part, *inner = name.split("/")
        if tree == "backbone":
            begun = np.asarray(first[name])
            change = np.array([np.square(last - begun).sum(dtype=np.float64), np.square(begun).sum(dtype=np.float64)])
            squares["backbone"] += change
            squares[inner[0] if part == "blocks" else part] += change
    return {part: round(100 * float(np.sqrt(change / norm)), 2) for part, (change, norm) in sorted(squares.items())}


if __name__ == "__main__":
    found = {name: moved(Path(run)) for name, _, run in (item.partition("=") for item in sys.argv[1:])}
    file = HERE / "moved.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps({**known, **found}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))

"""How a training run evaluates itself: the trainer's components in, numbers and a report in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rein_jax.components import TrainComponents
from rein_jax.evaluation.evaluator import evaluate
from rein_jax.precision import Policy

FOLDER = "evaluation"  # of a run: results.json, images/, panels/


def evaluate_run(components: TrainComponents, trainable: Mapping[str, Any], frozen: Mapping[str, Any], mesh: Any, policy: Policy,
                 folder: Path) -> dict[str, Any]:
    """Numbers of the model in training: {"protocol", "mean", "domains": {name: mIoU, IoU by class, ...}}.

    Everything else (confusion matrices, per-image counts, panels) is written to FOLDER/evaluation. {} without domains.
    """
    if not components.domains:
        return {}
    trained, kept = policy.entry(trainable, frozen, components.module_def.wishes)
    source = str(components.weights.get("source", "unknown"))
    facts = {"name": folder.resolve().name, "path": str(folder), "weights": dict(components.weights), "random_weights": source == "random"}
    model = components.module_def, {**trained, **kept}
    found = evaluate(model, components.domains, mesh=mesh, out=folder / FOLDER, facts=facts, **components.evaluation)
    means = ("mIoU", "mAcc", "aAcc")
    return {"protocol": found.data["protocol"]["text"], "mean": {key: found.mean[key] for key in means},
            "domains": {name: {key: entry[key] for key in (*means, "images", "of", "IoU")} for name, entry in found.domains.items()}}

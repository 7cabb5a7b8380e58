"""How a training run evaluates itself: the trainer's parts in, numbers and a report in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rein_jax.evaluation.evaluator import evaluate
from rein_jax.parts import Parts
from rein_jax.precision import Policy

FOLDER = "evaluation"  # of a run: results.json, images/, panels/


def evaluate_run(parts: Parts, trainable: Mapping[str, Any], frozen: Mapping[str, Any], mesh: Any, policy: Policy,
                 folder: Path) -> dict[str, Any]:
    """Numbers of the model in training: {"protocol", "mean", "domains": {name: mIoU, IoU by class, ...}}.

    Everything else (confusion matrices, per-image counts, panels) is written to FOLDER/evaluation. {} without domains.
    """
    if not parts.domains:
        return {}
    trained, kept = policy.entry(trainable, frozen)
    source = str(parts.weights.get("source", "unknown"))
    facts = {"name": folder.resolve().name, "path": str(folder), "weights": dict(parts.weights), "random_weights": source == "random"}
    model = parts.skeleton, {**trained, **kept}
    found = evaluate(model, parts.domains, mesh=mesh, out=folder / FOLDER, facts=facts, **parts.evaluation)
    means = ("mIoU", "mAcc", "aAcc")
    return {"protocol": found.data["protocol"]["text"], "mean": {key: found.mean[key] for key in means},
            "domains": {name: {key: entry[key] for key in (*means, "images", "of", "IoU")} for name, entry in found.domains.items()}}

"""What is being evaluated: a path, a module or its parts, brought to one form and given an identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from rein_jax import trees
from rein_jax.errors import UserError
from rein_jax.evaluation import device
from rein_jax.precision import policy

SAMPLE = 4096  # elements of each parameter that enter the identity


@dataclass
class EvalModel:
    """A model ready to be evaluated. facts: what results.json says about it ("name", "path", "weights", "config", ...)."""

    module_def: Any
    params: Mapping[str, Any]
    classes: Any  # data_pipelines.labels.ClassInfo
    patch: int = 16
    facts: dict[str, Any] = field(default_factory=dict)


def eval_model(model: Any, facts: Mapping[str, Any] | None = None, precision: str | None = None) -> EvalModel:
    """From a run folder or model.safetensors, an nnx.Module, or (module_def, params); `facts` are added to what is known.

    precision: cast the parameters as `precision.policy` says; None leaves them as they are.

    The module needs `scores`, `probabilities` and `classes`. A path without a checkpoint is a UserError (from `build.load`).
    """
    known: dict[str, Any] = {"name": "model"}
    if isinstance(model, (str, Path)):
        model, known = open_model(model)
    if isinstance(model, nnx.Module):
        if getattr(model, "written", ""):  # a Segmenter of a file: its run's windows are its own
            known["config"] = json.loads(model.written)
        module_def, _, params = trees.split(model, ())
    else:
        module_def, params = model
        model = trees.merge(module_def, params)
    patch = getattr(model, "patch", None) or getattr(getattr(model, "backbone", None), "patch", 16)
    known.update(facts or {})
    if "identity" not in known:
        known["identity"] = identity(params)
    if precision is not None:
        params = policy(precision).inputs(params, module_def.wishes)
    known["parameters"] = trees.count(params)
    dtype = max(params.values(), key=lambda a: a.size).dtype if precision is None else policy(precision).compute
    known["computes_in"] = np.dtype(dtype).name
    return EvalModel(module_def, params, model.classes, int(patch), known)


def open_model(path: str | Path) -> tuple[tuple[Any, Mapping[str, Any]], dict[str, Any]]:
    """((module_def, params), facts) of a run folder or model file; a UserError says what is missing."""
    from rein_jax import build
    from rein_jax.weights.modelfile import read_meta

    file = build.model_file(path)
    meta = read_meta(file)
    module_def, params, _ = build.load_parts(file)
    weights = meta.get("weights") or {}
    facts = {"name": file.parent.resolve().name, "path": str(path), "weights": weights, "identity": identity(params),
             "random_weights": weights.get("source") == "random"}
    return (module_def, params), {**facts, **{key: meta[key] for key in ("step", "config") if key in meta}}


def identity(params: Mapping[str, Any]) -> str:
    """16 hex digits that change when any parameter's name, shape or (sampled) values change."""
    digest = hashlib.sha256()
    for name in sorted(params):
        array = np.asarray(device.whole(params[name]))
        digest.update(f"{name} {array.shape}".encode())
        digest.update(array.reshape(-1)[:: max(1, array.size // SAMPLE)].astype(np.float32).tobytes())
    return digest.hexdigest()[:16]


def check_classes(model: Any, source: Any) -> None:
    """Refuse a model whose classes are not the data set's."""
    ours, theirs = tuple(model.names), tuple(source.classes.names)
    if ours == theirs:
        return
    if len(ours) != len(theirs):
        what = f"the model knows {len(ours)} classes, the data set {len(theirs)}"
    else:
        i = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
        what = f"class {i} is {ours[i]!r} for the model but {theirs[i]!r} in the data set"
    raise UserError(f"{getattr(source, 'name', 'the data set')}: {what}; open the data set with the classes the model was trained on.")

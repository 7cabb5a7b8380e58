"""A backbone with its published weights: from a name, or from a file in any naming scheme that its family knows."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from data_pipelines.paths import local_path
from rein_jax import registry, trees
from rein_jax.backbones import BACKBONES
from rein_jax.errors import UserError
from rein_jax.weight_rules import Rule
from rein_jax.weights import fetch
from rein_jax.weights.check import first_map_statistics
from rein_jax.weights.checkpoint import as_checkpoint
from rein_jax.weights.load import Fit, Summary, load_scheme
from rein_jax.weights.prefix import plain


@dataclass(frozen=True)
class Origin:
    """Where a backbone's values are from: its registered name, the file and its SHA-256; weights: what `weights=` was, "auto" or a file."""

    name: str
    source: str
    sha256: str
    weights: str = "auto"


def load_backbone(
    path: str | Path | Mapping[str, Any], name: str | type, shapes: Mapping[str, Any], *, fit: Fit | None = None, sizes: Any = None
) -> tuple[dict[str, np.ndarray], Summary]:
    """Values of `backbone/...` for a backbone, from a file in any naming scheme its module knows.

    name: registered, or the backbone's class. shapes: {flat name: anything with .shape and .dtype}. sizes: the module's ViTConfig of an
    unregistered variant. Parameters that no published file holds (the module's FRESH) are left out of the result. Raises UserError naming
    the file, what it looks like and what the config asks for when they do not belong together.
    """
    module = importlib.import_module(registry.load(BACKBONES, name, "backbone").__module__)
    if not hasattr(module, "formats") and not hasattr(module, "FORMATS"):
        raise UserError(f"{module.__name__} has no table of names (FORMATS) by which weights could be loaded; set backbone.weights=random.")
    formats = module.formats(sizes or name) if hasattr(module, "formats") else module.FORMATS
    if "backbone/norm/scale" in shapes:
        formats = {scheme: ((*rules, *_final_norm(module.FINAL_NORM[scheme])), skip) for scheme, (rules, skip) in formats.items()}
    return load_scheme(shapes, plain(as_checkpoint(path)), formats, fresh=getattr(module, "FRESH", ()), fit=fit or Fit(), asked=str(name))


def _final_norm(name: str) -> tuple[Rule, ...]:
    return Rule(f"{name}.weight", "backbone/norm/scale"), Rule(f"{name}.bias", "backbone/norm/bias")


def published_values(
    name: str | type, weights: str | Path, shapes: Mapping[str, Any], grid: tuple[int, int], sizes: Any = None
) -> tuple[dict[str, np.ndarray], Origin, Summary]:
    """Values of `backbone/...` and where they are from. weights: "auto" for the published file of this name, or a file; grid: patches
    (rows, columns) for which the positions are stored."""
    path = fetch.ensure(name) if weights == "auto" else local_path(weights)
    values, summary = load_backbone(path, name, shapes, fit=Fit(grid=grid), sizes=sizes)
    return values, Origin(str(name), str(path), fetch.file_hash(*summary.files), str(weights)), summary


def from_pretrained(kind: type, variant: str | Path, weights: str | Path | None, rngs: nnx.Rngs | None, options: dict[str, Any]) -> Any:
    """What `Backbone.from_pretrained` promises."""
    rngs = rngs or nnx.Rngs(0)
    if weights is None:
        return kind(variant, rngs=rngs, **options)
    variant, weights = _variant_and_weights(kind, variant, weights)
    key = rngs.params()
    make = lambda key: kind(variant, rngs=nnx.Rngs(params=key), **options)
    abstract = nnx.eval_shape(lambda: make(key))
    module_def, _, shapes = trees.split(abstract, ())
    grid = getattr(abstract, "grid", (1, 1))  # of a CNN: it has no positions
    values, origin, _ = published_values(variant, weights, {f"backbone/{n}": s for n, s in shapes.items()}, grid)
    values = {name.removeprefix("backbone/"): array for name, array in values.items()}
    drawn = shapes.keys() - values.keys()  # parts that no published file holds
    if drawn:
        values |= jax.jit(lambda key: {n: a for n, a in trees.flatten(make(key)).items() if n in drawn})(key)
    backbone = trees.merge(module_def, jax.device_put(values))
    backbone.origin = origin
    first_map_statistics(backbone, origin.source)
    return backbone


def _variant_and_weights(kind: type, variant: str | Path, weights: str | Path) -> tuple[str, str | Path]:
    """The registered name, and the file: a path in place of a name is the file, of the variant that its arrays fit."""
    names = {name: name for name in BACKBONES if name.startswith(f"{kind.family}_")}
    names |= {short: f"{kind.family}_{short}" for short in kind.VARIANTS}
    if variant in names:
        return names[variant], weights
    path = local_path(variant)
    if not path.exists():
        raise UserError(f"{registry.unknown(str(variant), sorted(set(names.values())), 'backbone')} A file of this name does not exist "
                        "either.")  # fmt: skip
    checkpoint = plain(as_checkpoint(path))
    reasons: dict[str, str] = {}
    for name in sorted(set(names.values())):
        shapes = trees.flatten(nnx.eval_shape(lambda name=name: kind(name, rngs=nnx.Rngs(0))))
        try:
            load_backbone(checkpoint, name, {f"backbone/{n}": s for n, s in shapes.items()})
        except UserError as error:
            reasons[name] = str(error)
        else:
            return name, path
    name, reason = next(iter(reasons.items()))
    raise UserError(f"{path} holds no {kind.__name__} that is known here ({', '.join(reasons)}); as {name}: {reason}")

"""Beginning a run with what another has learnt."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from data_pipelines.paths import local_path
from rein_jax.errors import UserError
from rein_jax.weights.modelfile import read_model


def start_from(path: str, trainable: Mapping[str, Any], classes: Sequence[str] = (),
               classifier: Callable[[], Collection[str]] = frozenset) -> dict[str, Any]:
    """Trainable leaves of a finished run, for a second stage; names and shapes must be the same.

    Args: path: a run's folder or a model file. trainable: {name: leaf} of the new run. classes: names of its classes; where those of
    the other run differ, the leaves that `classifier()` names are left out: they would score other classes.
    Returns: {name: value} of the leaves that are taken. Raises: UserError for a run that has not finished or does not fit.
    """
    file = local_path(path)
    if file.is_dir():
        if not (file / "model.safetensors").exists():
            raise UserError(f"config.init_from={path}: there is no model.safetensors in this folder; a run writes it at its end.")
        file = file / "model.safetensors"
    values, meta = read_model(file)
    known = [str(name) for name in meta.get("classes") or ()]
    fresh = set(classifier()) if known and classes and known != list(classes) else set()
    taken = [name for name in trainable if name not in fresh]
    differing = [n for n in taken if n not in values or tuple(values[n].shape) != tuple(trainable[n].shape)]
    if differing:
        raise UserError(f"config.init_from={path}: {len(differing)} trainable parameters of this config are not in that run, "
                        f"{differing[0]!r} first; start from a run with the same adapter and head.")  # fmt: skip
    return {name: values[name] for name in taken}

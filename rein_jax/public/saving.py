"""A model put together or trained in Python -> a model file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.paths import local_path
from rein_jax import __version__, build, trees
from rein_jax.errors import UserError
from rein_jax.sharding import gather
from rein_jax.weights.modelfile import write_model

if TYPE_CHECKING:
    from rein_jax.public.segmenter import Segmenter


def save_model(model: Segmenter, path: str | Path, backbone: bool | None) -> Path:
    """What `Segmenter.save` promises."""
    path = local_path(path)
    file = path if path.suffix == ".safetensors" else path / "model.safetensors"
    config = model.config
    module_def, _, leaves = trees.split(model, ())
    arrays = gather(leaves)
    derived = trees.never_trained(module_def)  # an adapter's follow from the backbone's weights
    origin = getattr(model.backbone, "origin", None)
    named = origin is not None and (backbone is False or backbone is None and _unchanged(arrays, config))
    if backbone is False and not named:
        raise UserError("The backbone's weights are not those of a file, so that a model without them could not be loaded; leave out "
                        "backbone=False.")  # fmt: skip
    left_out = ("backbone/",) if named else ()
    kept = {n: a for n, a in arrays.items() if not n.startswith(left_out) and not (n in derived and n.startswith("adapters/"))}
    weights = {"name": origin.name, "source": origin.source, "sha256": origin.sha256} if origin else {"name": config.backbone.name,
                                                                                                      "source": "random", "sha256": ""}
    write_model(file, kept, {
        "config": config, "classes": list(model.classes.names), "palette": [list(map(int, colour)) for colour in model.classes.palette],
        "weights": weights, "frozen": f"sha256:{origin.sha256}" if named else "", "version": __version__,
        "preprocessing": {"mean": model.preprocessing.mean, "std": model.preprocessing.std},
    })  # fmt: skip
    return file


def _unchanged(arrays: dict[str, np.ndarray], config: Any) -> bool:
    """Whether the backbone's arrays are still those of the file that they came from, which is read again."""
    mine = {name: array for name, array in arrays.items() if name.startswith("backbone/")}
    try:
        values, _ = build.load_backbone(config, mine)
    except UserError:  # the file is gone: the model must stand alone
        return False
    return all(np.array_equal(array, mine[name]) for name, array in values.items())

"""Files on disk -> NumPy: data sets, label maps, checks and training mixtures; imports neither jax nor rein_jax.

from data_pipelines import open_source
source = open_source("gtav", source="/data/gta")          # a folder, a .zip, or what `rein prepare` wrote
source[0]["image"], source[0]["label"], source[0]["name"]
"""

from __future__ import annotations

import importlib
import inspect
import os
from typing import Any

from data_pipelines.errors import DataError
from data_pipelines.spelling import did_you_mean

# name -> a callable, or "module:callable", that takes (split=, source=, **options) and gives a Source (ARCHITECTURE.md, data contract).
DATASETS: dict[str, Any] = {
    "gtav": "data_pipelines.datasets.gtav:GTAV",
    "synthia": "data_pipelines.datasets.synthia:SYNTHIA",
    "urbansyn": "data_pipelines.datasets.urbansyn:URBANSYN",
    "cityscapes": "data_pipelines.datasets.cityscapes:CITYSCAPES",
    "bdd100k": "data_pipelines.datasets.bdd100k:BDD100K",
    "mapillary": "data_pipelines.datasets.mapillary:MAPILLARY",
    "acdc": "data_pipelines.datasets.acdc:ACDC",
    "camvid": "data_pipelines.datasets.camvid:CAMVID",
    "folder": "data_pipelines.datasets.folder:open_folder",
    "streets": "data_pipelines.datasets.streets:open_streets",
}


def dataset(name: str) -> Any:
    """The registered data set, or a DataError that lists the names that exist."""
    if name not in DATASETS:
        raise DataError(f"Unknown data set {name!r}.{did_you_mean(name, DATASETS)} Known: {', '.join(sorted(DATASETS))}.")
    target = DATASETS[name]
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def open_source(name: str, *, split: str = "train", source: str | os.PathLike | None = None, **options: Any) -> Any:
    """Opens data set `name` at one split; `source` is a folder, a .zip or a prepared folder (default: $REIN_DATA/<name>).

    Data sets of files take `policy="raise" | "skip"`, `exif`, `labels` and `subset="1/N"`; others, such as `condition`, differ
    by set.
    """
    from data_pipelines.objects import as_source

    opened = dataset(name)
    parameters = inspect.signature(opened).parameters
    if source is not None or "source" in parameters:  # a data set of one's own may need none
        options = {"source": source, **options}
    for key in ("split", *options):
        if key not in parameters and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            raise DataError(f"{name} has no option {key!r}; it knows {', '.join(sorted(parameters))}.")
    return as_source(opened(split=split, **options), name=name, split=split)

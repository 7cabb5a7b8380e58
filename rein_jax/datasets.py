"""From a config to its data: sources, the training batches and what is done to their images, and the domains to evaluate on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from data_pipelines.paths import local_path
from rein_jax.configuration.objects import is_stated
from rein_jax.configuration.options import plain
from rein_jax.errors import UserError


def open_entry(entry: Mapping[str, Any], root: str = ""):
    """One source of `data.train` or `eval.domains`: {"name", "split", "source", options...}, or a source or other object itself."""
    from data_pipelines import dataset, open_source
    from data_pipelines.objects import as_source, open_object

    if not hasattr(entry, "items"):
        return as_source(entry)
    if is_stated(entry) or is_stated(entry.get("source")):
        path = (entry if is_stated(entry) else entry["source"])["object"]
        raise UserError(f"The config names a data set that was a Python object, {path}; no file holds it: put such an object back in its "
                        "place in config.data.train or config.eval.domains.")
    options = {key: plain(value) for key, value in entry.items()}
    options.pop("label", None)  # said of a domain, not of its data set
    name = options.pop("name", None)
    if not isinstance(options.get("source"), str | Path | None):
        return open_object(options.pop("source"), name=name, **options)
    if name is None:
        raise UserError(f"An entry of config.data.train or config.eval.domains has no name: {dict(entry)}.")
    split, source = options.pop("split", "train"), options.pop("source", None)
    if source is None and root and name != "streets" and "source" in signature(dataset(name)).parameters:
        folder, file = local_path(root) / name, local_path(root) / f"{name}.zip"
        source = str(file if file.exists() and not folder.exists() else folder)
    return open_source(name, split=split, source=source, **options)


def open_domains(config) -> dict[str, Any]:
    """{domain: source} of `config.eval.domains`."""
    entries = [plain(entry) for entry in config.eval.domains]
    return named_domains(entries, [open_entry(entry, config.data.root) for entry in entries], "label in config.eval.domains")


def named_domains(entries: list[dict[str, Any]], sources: list[Any], where: str) -> dict[str, Any]:
    """{name: source}: an entry's `label`, else the source's domain, with the split where two sources share a domain."""
    shared = [source.domain for source in sources]
    out: dict[str, Any] = {}
    for entry, source in zip(entries, sources, strict=True):
        label = entry.get("label") if hasattr(entry, "items") else None
        name = label or (source.domain if shared.count(source.domain) == 1 else f"{source.domain}-{source.split}")
        if name in out:
            raise UserError(f"Two domains are called {name!r}; give one of them another name ({where}).")
        out[name] = source
    return out


def make_transform(config):
    """The training transform of `config.data`."""
    from data_pipelines.transforms import Photometric, TrainTransform

    data = config.data
    photometric = Photometric() if data.photometric else None
    return TrainTransform(tuple(data.crop), make_resize(data.resize), data.cat_max_ratio, data.flip, photometric)


def make_resize(text: str, where: str = "config.data.resize"):
    """What `data.resize` means: official, none, LOW:HIGH (16 short edges) or WIDTHxHEIGHT:LOW:HIGH (a box times a factor)."""
    from data_pipelines.transforms import RandomResize, ShortestEdge

    if text in ("official", "none"):
        return None if text == "none" else text
    edges = re.fullmatch(r"(\d+):(\d+)", text)
    box = re.fullmatch(r"(\d+)x(\d+):(\d+\.?\d*):(\d+\.?\d*)", text)
    if edges and 0 < int(edges[1]) <= int(edges[2]):
        low, high = map(int, edges.groups())
        return ShortestEdge(tuple(low + (high - low) * i // 15 for i in range(16)), 4 * high)
    if box and 0 < float(box[3]) <= float(box[4]) and float(box[3]) * min(int(box[1]), int(box[2])) >= 1:
        return RandomResize((int(box[1]), int(box[2])), (float(box[3]), float(box[4])))
    raise UserError(f"{where} is {text!r}; give official, none, short edges LOW:HIGH such as 256:512, "
                    "or a box and factors such as 2048x1024:0.5:2.")


def training_data(config) -> tuple[Any, Callable, str]:
    """(classes, batches(start_step, process_index, process_count), fingerprint) of the training data."""
    from data_pipelines import mixture
    from data_pipelines.cache import Cached

    if not config.data.train:
        raise UserError("config.data.train is empty; name at least one source.")
    sources = [open_entry(entry, config.data.root) for entry in config.data.train]
    if config.data.cache:
        sources = [Cached(source, config.data.cache, threads=config.data.threads) for source in sources]
    classes = same_classes({f"data.train[{i}]": s for i, s in enumerate(sources)})
    transform, weights = make_transform(config), tuple(config.data.weights) or None
    common = dict(weights=weights, transform=transform, batch=config.train.batch, seed=config.seed)

    def batches(start_step: int, process_index: int = 0, process_count: int = 1):
        return mixture.train_batches(
            sources, start_step=start_step, process_index=process_index, process_count=process_count, threads=config.data.threads,
            workers=config.data.workers, **common,
        )  # fmt: skip

    return classes, batches, mixture.fingerprint(sources, **common)[0]


def same_classes(sources: Mapping[str, Any]):
    """The classes that all the sources share; differing ones are a UserError."""
    (first, reference), *rest = sources.items()
    for name, source in rest:
        if source.classes.names != reference.classes.names:
            raise UserError(f"{name} has other classes than {first} ({len(source.classes)} against {len(reference.classes)}); "
                            "use data sets with the same class list.")  # fmt: skip
    return reference.classes

"""Data for your own training loops and evaluations: data sets by name, folders, any object, and the trainer's batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import data_pipelines
from data_pipelines import mixture
from data_pipelines.labels import ClassInfo
from data_pipelines.objects import as_source, open_object
from data_pipelines.transforms import Photometric, TrainTransform
from rein_jax.configuration.check import refuse
from rein_jax.datasets import make_resize, same_classes
from rein_jax.errors import UserError
from rein_jax.kinds import FLAG, TEXT, either, number, several, whole

__all__ = ["loader", "open"]


def open(data: Any, source: str | Path | None = None, *, split: str = "train",
         classes: ClassInfo | Sequence[str] | Mapping[str, Sequence[int]] | None = None, name: str | None = None, **options: Any) -> Any:
    """A source of images and labels.

    Args:
        data: name of a data set ("cityscapes", "folder", "streets", or of one registered by `rj.register("dataset", ...)`); or any object
            with `__len__` and `__getitem__` whose elements are {"image": uint8 [H, W, 3], "label": integer [H, W]} or (image, label).
        source: folder or .zip of a named data set (default: $REIN_DATA/<name>).
        split: "train", "val" or "test"; of an object it is only said.
        classes: of an object: names in the order of the labels' values, {name: colour}, or a ClassInfo; None: its own `.classes`.
        name: of an object, for results and messages.
        **options: of the data set, such as policy="skip" (which objects take, too), subset="1/16", or of a folder
            values={"car": [13, 14], "ignore": [0, 255]}.

    Returns:
        A source: `len(source)`, `source[i]` -> {"image", "label" uint8 [H, W] with 255 for void, "name"}, `source.classes`.

        A run resumes on data of the same fingerprint: an object's own `fingerprint()`, else a hash of its type, length, classes and eight
        elements.

    Raises:
        DataError: an unknown data set or option, or files that do not fit; of an object each element is checked when it is read.

    Example:
        source = rj.data.open("cityscapes", "/data/cityscapes", split="val")
        source = rj.data.open(my_dataset, classes=["road", "car"])
    """
    if isinstance(data, str):
        if name is not None:
            raise UserError(f"name={name!r} is for an object; the data set {data!r} has its name already.")
        if classes is not None:
            options["classes"] = classes
        return data_pipelines.open_source(data, split=split, source=source, **options)
    if source is not None:
        raise UserError(f"source={source!r} belongs to a data set by name; a {type(data).__name__} brings its own elements.")
    return open_object(data, classes=classes, name=name, split=None if split == "train" else split, **options)


def loader(sources: Any, *, crop: int | tuple[int, int] = 512, batch_size: int = 16, weights: Sequence[float] | None = None, seed: int = 0,
           start_step: int = 0, resize: str = "official", flip: float = 0.5, photometric: bool = True, cat_max_ratio: float = 0.75,
           threads: int = 8, workers: int = 0, names: bool = False, process_index: int | None = None,
           process_count: int | None = None) -> mixture.Batches:
    """Endless training batches, shuffled and augmented as the trainer's own.

    Args:
        sources: one, or several of the same classes; also objects that `open` takes.
        crop: side of the crops in pixels, or (height, width).
        batch_size: images of a batch, over all processes.
        weights: shares of the sources; None joins them, every image once an epoch.
        seed, start_step: batch number t is a function of (seed, t) alone; start_step begins with a later one.
        resize: "official" (16 scales from 0.5 to 2), "none", short edges "256:512", or a box and factors "2048x1024:0.5:2".
        flip: chance of a mirrored image. photometric: change brightness, contrast, saturation and hue. cat_max_ratio: largest share of one
            class in a crop, as far as ten tries find one.
        threads, workers: threads of a process, and worker processes (0: this one).
        names: also give "name", a list of text, which no compiled function takes.
        process_index, process_count: which rows of each batch (default: those of this JAX process).

    Returns:
        An iterator of {"image" uint8 [B, H, W, 3], "label" uint8 [B, H, W], "size" int32 [B, 2], "index" int32 [B, 2] (source, element)},
        arrays that a compiled step takes as they are; also a context manager that ends its threads.

    Raises:
        UserError: other classes in one source than in another, or an argument that cannot be. DataError: weights that cannot be.

    Example:
        for batch in rj.data.loader([rj.data.open("cityscapes", "/data/cityscapes")], crop=512, batch_size=16): ...
    """
    import jax

    opened = [as_source(source) for source in (sources if isinstance(sources, list | tuple) else [sources])]
    if opened:
        same_classes({f"sources[{i}]": source for i, source in enumerate(opened)})
    side = whole(1)
    for key, value, kind in (
        ("crop", crop, either(side, several(side, 2))), ("batch_size", batch_size, side), ("seed", seed, whole(0)),
        ("start_step", start_step, whole(0)), ("resize", resize, TEXT), ("flip", flip, number(0, 1)), ("photometric", photometric, FLAG),
        ("cat_max_ratio", cat_max_ratio, number(0, 1)), ("threads", threads, side), ("workers", workers, whole(0)),
    ):  # fmt: skip
        refuse(f"loader: {key}", value, kind)
    transform = TrainTransform(crop, make_resize(resize, "loader: resize"), cat_max_ratio, flip, Photometric() if photometric else None)
    return mixture.train_batches(
        opened, weights, transform, batch=batch_size, seed=seed, start_step=start_step, threads=threads, workers=workers, names=names,
        process_index=jax.process_index() if process_index is None else process_index,
        process_count=jax.process_count() if process_count is None else process_count,
    )  # fmt: skip

"""Data for training loops and evaluations of one's own: data sets by name, folders, any object, and the trainer's batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import data_pipelines
from data_pipelines import mixture
from data_pipelines.labels import ClassInfo
from data_pipelines.objects import as_source
from data_pipelines.transforms import Photometric, TrainTransform
from rein_jax.datasets import make_resize, same_classes
from rein_jax.errors import UserError


def open(data: Any, source: str | Path | None = None, *, split: str = "train",
         classes: ClassInfo | Sequence[str] | Mapping[str, Sequence[int]] | None = None, name: str | None = None, **options: Any) -> Any:
    """A source of images and labels.

    Args:
        data: name of a data set ("cityscapes", "folder", "streets", or of one registered by `rj.register("dataset", ...)`); or any object
            with `__len__` and `__getitem__` whose elements are {"image": uint8 [H, W, 3], "label": integer [H, W]} or (image, label).
        source: folder or .zip of a named data set (default: $REIN_DATA/<name>).
        split: "train", "val" or "test".
        classes: of an object: names in the order of the labels' values, {name: colour}, or a ClassInfo; None: its own `.classes`.
        name: of an object, for results and messages.
        **options: of the data set, such as policy="skip", subset="1/16", or of a folder values={"car": [13, 14], "ignore": [0, 255]}.

    Returns:
        A source: `len(source)`, `source[i]` -> {"image", "label" uint8 [H, W] with 255 for void, "name"}, `source.classes`.

    Raises:
        DataError: an unknown data set or option, or files that do not fit.

    Example:
        source = rj.data.open("cityscapes", "/data/cityscapes", split="val")
        source = rj.data.open(my_dataset, classes=["road", "car"])
    """
    if isinstance(data, str):
        if classes is not None:
            options["classes"] = classes
        return data_pipelines.open_source(data, split=split, source=source, **options)
    if source is not None:
        raise UserError(f"source={source!r} belongs to a data set by name; a {type(data).__name__} brings its own elements.")
    return as_source(data, classes=classes, name=name, split=split, **options)


def loader(sources: Any, *, crop: int | tuple[int, int] = 512, batch_size: int = 16, weights: Sequence[float] | None = None, seed: int = 0,
           start_step: int = 0, resize: str = "official", flip: float = 0.5, photometric: bool = True, cat_max_ratio: float = 0.75,
           threads: int = 8, workers: int = 0, process_index: int | None = None,
           process_count: int | None = None) -> Iterator[dict[str, np.ndarray]]:
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
        process_index, process_count: which rows of each batch (default: those of this JAX process).

    Returns:
        An iterator of {"image" uint8 [B, H, W, 3], "label" uint8 [B, H, W], "size" int32 [B, 2], "index" int32 [B, 2], "name" list of str},
        also a context manager that ends its threads.

    Raises:
        UserError: other classes in one source than in another. DataError: weights or sizes that cannot be.

    Example:
        for batch in rj.data.loader([rj.data.open("cityscapes", "/data/cityscapes")], crop=512, batch_size=16): ...
    """
    import jax

    opened = [as_source(source) for source in (sources if isinstance(sources, list | tuple) else [sources])]
    if opened:
        same_classes({f"sources[{i}]": source for i, source in enumerate(opened)})
    height, width = (crop, crop) if isinstance(crop, int) else crop
    transform = TrainTransform((height, width), make_resize(resize), cat_max_ratio, flip, Photometric() if photometric else None)
    return mixture.train_batches(
        opened, weights, transform, batch=batch_size, seed=seed, start_step=start_step, threads=threads, workers=workers,
        process_index=jax.process_index() if process_index is None else process_index,
        process_count=jax.process_count() if process_count is None else process_count,
    )  # fmt: skip

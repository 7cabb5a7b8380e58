"""What a run is made of: `rein_jax.build` fills it from a config, the trainer, the planner and the benches use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rein_jax.trees import FlatParams, ModuleDef

Batches = Callable[[int, int, int], Iterator[dict]]
Augment = Callable[[Mapping[str, Any], Any, Callable], dict]


@dataclass
class TrainComponents:
    """The built parts of one run. `build.build_all(config, abstract=False) -> TrainComponents`.

    With `abstract=True` nothing is read from disk: `trainable` and `frozen` hold jax.ShapeDtypeStruct, `batches` is None
    (`rein plan` and memory estimates). Arrays are fp32 and may live on the host; the trainer casts and places them.
    """

    module_def: ModuleDef  # the Segmenter without arrays: trees.merge(module_def, trainable, frozen).loss(batch, key)
    trainable: FlatParams
    frozen: FlatParams
    classes: Any  # data_pipelines.labels.ClassInfo(names, palette)
    tx: Any  # optax.GradientTransformation over the flat dict of trainable leaves (optim.make_optimizer)
    schedule: Callable[[Any], Any] | None  # optimizer step -> learning rate, for the log (None: unknown, of an optimizer of your own)
    crop: tuple[int, int]  # height, width of a training image: with train.batch the one shape of a run
    batches: Batches | None = None  # batches(start_step, process_index, process_count) -> this process's batches, forever
    augment: Augment | None = None  # augment(batch, key, loss_fn) -> batch, on device inside the step; loss_fn(batch) -> scalar
    domains: Mapping[str, Any] = field(default_factory=dict)  # name -> source to evaluate on
    evaluation: Mapping[str, Any] = field(default_factory=dict)  # further keyword arguments of evaluation.evaluate
    fingerprint: str = ""  # of the training data: resuming on other data is refused
    weights: Mapping[str, Any] = field(default_factory=dict)  # of the backbone: "name", "source" (URL, file, "random"), "sha256"
    preprocessing: Mapping[str, Any] = field(default_factory=dict)  # for the model file: mean, std, window, ...

"""From a config to a model and the components of a run, and from a model file to the model. The only reader of the registries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
from flax import nnx
from ml_collections import ConfigDict

from data_pipelines.paths import local_path
from rein_jax import optim, registry, trees
from rein_jax.adapters import ADAPTERS
from rein_jax.augment import AUGMENTS
from rein_jax.backbones import BACKBONES, FAMILIES
from rein_jax.backbones.variants import get_variant
from rein_jax.components import TrainComponents
from rein_jax.configuration import check as config_check
from rein_jax.configuration.objects import is_stated
from rein_jax.configuration.options import accepted, options_of, plain
from rein_jax.configuration.renamed import current
from rein_jax.datasets import open_domains, same_classes, training_data
from rein_jax.errors import UserError
from rein_jax.heads import HEADS
from rein_jax.losses import LOSS_OF, LOSSES
from rein_jax.segmenter import Preprocessing, SegmentationModel
from rein_jax.weights.check import first_map_statistics
from rein_jax.weights.init_from import start_from


def make_segmenter(config, classes, rngs: nnx.Rngs, kind: type[SegmentationModel] = SegmentationModel) -> SegmentationModel:
    """The model of a config, of the class `kind`, with initial values; call it under `nnx.eval_shape` for shapes only."""
    backbone = make_backbone(config.backbone, rngs)
    adapter = None
    if config.adapter.name != "none":
        method = registry.load(ADAPTERS, config.adapter.name, "adapter")
        adapter = method(backbone, rngs=rngs, **options_of(config.adapter, method, "config.adapter"))
    head = registry.load(HEADS, config.head.name, "head")
    head = head(backbone, len(classes), adapter=adapter, rngs=rngs, **options_of(config.head, head, "config.head"))
    return kind(backbone, head, adapter=adapter, classes=classes, loss=make_loss(config, len(classes), head))


def make_loss(config, num_classes: int, head: nnx.Module):
    """The loss of a config: of a registered name or a class, called with the number of classes, or a function as it is. None, which means
    the head's own, where a model's file states an object."""
    name, wanted = config.loss.name, getattr(head, "loss_name", None)
    if is_stated(name):
        return None
    if wanted and name != wanted and name in LOSS_OF.values():  # of two losses of this package the other one
        raise UserError(f"config.head.name={config.head.name} needs config.loss.name={wanted}, not {name}.")
    loss = registry.load(LOSSES, name, "loss")
    return loss(num_classes, **options_of(config.loss, loss, "config.loss")) if isinstance(loss, type) else loss


def make_backbone(section, rngs: nnx.Rngs) -> nnx.Module:
    """The backbone of a config's section; one of a user's own is given those of the section's keys that its constructor takes."""
    known = FAMILIES | BACKBONES if isinstance(section.name, str) and section.name in FAMILIES else BACKBONES
    cls = registry.load(known, section.name, "backbone")
    options = options_of({"name": section.name, **section.options}, cls, "config.backbone.options")
    common = {"image_size": plain(section.image_size), "out_indices": tuple(section.out_indices) or None, "remat": section.remat,
              "unroll": section.unroll, "variant": section.name}
    if isinstance(options.get("variant"), Mapping):  # your own sizes, from a file
        options["variant"] = get_variant(cls.VARIANTS, options["variant"], cls.family)
    return cls(rngs=rngs, **{**{key: value for key, value in common.items() if key in accepted(cls)}, **options})


def abstract_params(config, classes, kind: type[SegmentationModel] = SegmentationModel):
    """(module_def, trainable shapes, frozen shapes) of a config; reads nothing from disk and allocates nothing."""
    model = nnx.eval_shape(lambda: make_segmenter(config, classes, nnx.Rngs(0), kind))
    return trees.split(model, tuple(config.trainable))


def initial_values(config, classes, names: set[str]) -> trees.FlatParams:
    """Initial values of the named parameters, from `config.seed`; the others are never computed."""

    def values(key):
        model = make_segmenter(config, classes, nnx.Rngs(params=key))
        return {name: array for name, array in trees.flatten(model).items() if name in names}

    return jax.jit(values)(jax.random.key(config.seed)) if names else {}


def load_backbone(config, shapes: trees.FlatParams) -> tuple[trees.FlatParams, dict[str, Any]]:
    """Pretrained values of backbone/... for the given shapes -> (flat dict, {"name", "source", "sha256", "summary"})."""
    from rein_jax.backbones.pretrained import published_values
    from rein_jax.backbones.vit import grid_of

    section = config.backbone
    grid = grid_of(plain(section.image_size), section.options.get("patch", 16))
    values, origin, summary = published_values(section.name, section.weights, shapes, grid)
    return values, {"name": origin.name, "source": origin.source, "sha256": origin.sha256, "summary": str(summary)}


def build_params(config, classes, *, pretrained: bool = True, kind: type[SegmentationModel] = SegmentationModel):
    """(module_def, trainable, frozen, weights report) of a model of the class `kind`; the backbone as `config.backbone.weights` says."""
    module_def, trainable, frozen = abstract_params(config, classes, kind)
    shapes = {**trainable, **frozen}
    backbone = {name: shape for name, shape in shapes.items() if name.startswith("backbone/")}
    if config.backbone.weights == "random" or not pretrained:
        loaded, report = {}, {"name": config.backbone.name, "source": "random", "sha256": "", "summary": "random initial values"}
    else:
        loaded, report = load_backbone(config, backbone)
    values = {**initial_values(config, classes, set(shapes) - set(loaded)), **loaded}
    if loaded:
        report["first_map"] = first_map_statistics(trees.merge(module_def, values).backbone, report["source"])
    values = after_loading(config, module_def, values)
    if config.init_from and pretrained:
        taken = start_from(config.init_from, trainable, classes.names, lambda: classifier_of(config, classes))
        values.update(taken)
        new = sorted(trainable.keys() - taken.keys())
        report["init_from"] = config.init_from + (f", which has other classes: {', '.join(new)} begin at random" if new else "")
    return module_def, {n: values[n] for n in trainable}, {n: values[n] for n in frozen}, report


def after_loading(config, module_def: trees.ModuleDef, values: trees.FlatParams) -> trees.FlatParams:
    """Lets an adapter take its initial values from the loaded backbone (SoMA decomposes the weights)."""
    if config.adapter.name == "none":
        return values
    method = registry.load(ADAPTERS, config.adapter.name, "adapter")
    return method.from_backbone(module_def, values) if hasattr(method, "from_backbone") else values


def classifier_of(config, classes) -> set[str]:
    """Names of the parameters whose shapes follow the number of classes."""
    from data_pipelines.labels import ClassInfo

    more = ClassInfo((*classes.names, "one more"), (*classes.palette, (0, 0, 0)))
    here, there = ({**trainable, **frozen} for _, trainable, frozen in (abstract_params(config, classes), abstract_params(config, more)))
    return {name for name, leaf in here.items() if leaf.shape != there[name].shape}


def make_augment(config):
    """The on-device augmentation of `config.augment`, or None."""
    if config.augment.name == "none":
        return None
    kind = registry.load(AUGMENTS, config.augment.name, "augmentation")
    return kind(**options_of(config.augment, kind, "config.augment"))


def build_all(config, *, abstract: bool = False) -> TrainComponents:
    """All components of a run; `abstract=True` reads and allocates nothing, and takes Cityscapes' classes (see TrainComponents)."""
    from data_pipelines.labels import CITYSCAPES

    config_check.check(config)
    if is_stated(config.loss.name):
        raise UserError(f"The config names a loss that was a Python object, {config.loss.name['object']}; put such an object back as "
                        "config.loss.name.")
    if abstract:
        module_def, trainable, frozen = abstract_params(config, CITYSCAPES)
        classes, batches, fingerprint, domains, weights = CITYSCAPES, None, "", {}, {}
    else:
        classes, batches, fingerprint = training_data(config)
        domains = open_domains(config)
        if domains:
            same_classes({"data.train": SimpleNamespace(classes=classes), **{f"eval domain {n}": s for n, s in domains.items()}})
        module_def, trainable, frozen, weights = build_params(config, classes)
    tx, schedule = optim.make_optimizer(config.optim, trainable, module_def.wishes, steps=config.train.steps)
    return TrainComponents(
        module_def, trainable, frozen, classes, tx, schedule, tuple(config.data.crop), batches, make_augment(config), domains,
        evaluation_options(config), fingerprint, weights, {"mean": Preprocessing().mean, "std": Preprocessing().std},
    )  # fmt: skip


def evaluation_options(config) -> dict[str, Any]:
    """Keyword arguments of `evaluation.evaluate` that `config.eval` states."""
    return {key: plain(config.eval[key]) for key in ("protocol", "mode", "crop", "stride", "batch")}


def load_parts(path: str | Path, kind: type[SegmentationModel] = SegmentationModel):
    """(module_def, all leaves, the file's metadata) of a trained model, from a run folder or a model.safetensors.

    The frozen backbone comes from the file itself (full form), or from the weights the file names, checked by their hash.
    Raises UserError for a folder without a model, a damaged file, or other backbone weights than the run's.
    """
    from rein_jax.weights.modelfile import check_backbone, class_list, missing_arrays, read_model

    file = model_file(path)
    arrays, meta = read_model(file)
    classes = class_list(file, meta)
    try:
        config = ConfigDict(current(meta.get("config", {})))
        module_def, trainable, frozen = abstract_params(config, classes, kind)
    except (KeyError, AttributeError, TypeError, ValueError, ArithmeticError) as error:
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"{file} cannot be built from the config in its metadata: {reason}") from None
    shapes = {**trainable, **frozen}
    missing = missing_arrays(file, arrays, shapes, not_elsewhere(module_def, trainable, frozen))
    values: trees.FlatParams = {}
    if any(name.startswith("backbone/") for name in missing) and (meta.get("weights") or {}).get("source") != "random":
        values, report = load_backbone(config, {name: shape for name, shape in shapes.items() if name.startswith("backbone/")})
        check_backbone(file, meta, f"sha256:{report['sha256']}")
    values = {**initial_values(config, classes, missing - set(values)), **values, **arrays}
    if any(name.startswith("adapters/") for name in missing):  # frozen leaves that an adapter takes from the backbone
        values = {**after_loading(config, module_def, values), **arrays}
    return module_def, values, meta


def not_elsewhere(module_def: trees.ModuleDef, trainable: trees.FlatParams, frozen: trees.FlatParams) -> set[str]:
    """Names of the leaves that only a model's file holds: no weights of the backbone hold them, they do not follow from these, and they are
    no constants."""
    known = trees.never_trained(module_def)
    return set(trainable) | {name for name in frozen if not name.startswith("backbone/") and name not in known}


def model_file(path: str | Path) -> Path:
    """The model file that a run folder or path means."""
    path = local_path(path)
    if path.is_dir():
        for name in ("model.safetensors", "best.safetensors"):
            if (path / name).exists():
                return path / name
        raise UserError(f"{path} holds no model.safetensors; the run has not finished. Run its `rein train` again to continue.")
    if not path.exists():
        raise UserError(f"{path} does not exist; name a run folder or a model.safetensors.")
    return path

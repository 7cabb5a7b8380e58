"""The config of a model that was put together in Python, so that it can be saved and built again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from ml_collections import ConfigDict

from rein_jax.adapters import ADAPTERS
from rein_jax.backbones import BACKBONES, FAMILIES
from rein_jax.configuration import default
from rein_jax.errors import UserError
from rein_jax.heads import HEADS
from rein_jax.layers.component import Component
from rein_jax.registry import name_of
from rein_jax.segmenter import SegmentationModel


def config_of(model: SegmentationModel) -> ConfigDict:
    """The config that `build.make_segmenter` makes this model from; its parts must be registered."""
    config = default()
    config.name = "composed"
    _backbone(config.backbone, model.backbone)
    config.adapter = ConfigDict({"name": "none"})
    if model.adapters:
        config.adapter = ConfigDict(_section(ADAPTERS, "adapter", model.adapters[0]))
    else:
        config.trainable = ("head/",)
    config.head = ConfigDict(_section(HEADS, "head", model.head))
    config.loss = ConfigDict({"name": getattr(model.head, "loss_name", "pixel")})
    config.eval.update(windows_of(model))
    return config


def windows_of(model: SegmentationModel) -> dict[str, int]:
    """Windows of the size that the backbone's positions are stored for, in steps of two thirds; 512 where it has none."""
    size = getattr(model.backbone, "options", {}).get("image_size", 512)
    window = size if isinstance(size, int) else min(size)
    return {"crop": window, "stride": max(1, 2 * window // 3)}


def _backbone(section: ConfigDict, backbone: Any) -> None:
    options = _options(backbone, "Backbone")
    variant = options.pop("variant", None)
    family = name_of(FAMILIES, type(backbone))
    registered = name_of(BACKBONES, type(backbone))
    if isinstance(variant, str) and (family is None or f"{family}_{variant.removeprefix(f'{family}_')}" in BACKBONES):
        section.name = variant if family is None or variant in BACKBONES else f"{family}_{variant}"
    elif family or registered:
        section.name = family or registered
        if isinstance(variant, Mapping):
            options["variant"] = variant
    else:
        raise _unregistered("backbone", type(backbone))
    section.weights = backbone.origin.weights if getattr(backbone, "origin", None) else "random"
    for key in ("image_size", "out_indices", "remat", "unroll"):
        if key in options:
            with section.ignore_type():
                section[key] = options.pop(key) or section[key]
    section.options = ConfigDict(options)


def _section(registry: Mapping[str, Any], what: str, part: Any) -> dict[str, Any]:
    name = name_of(registry, type(part))
    if name is None:
        raise _unregistered(what, type(part))
    return {"name": name, **_options(part, what.capitalize())}


def _options(part: Any, base: str) -> dict[str, Any]:
    """What the part was made with, as a config states it."""
    if not isinstance(part, Component):
        raise UserError(f"{type(part).__name__} does not derive from rein_jax.{base}, which keeps its options: a saved model could "
                        "not be built again. Derive it.")  # fmt: skip
    return {key: _plain(value) for key, value in part.options.items()}


def _unregistered(what: str, kind: type) -> UserError:
    return UserError(f"{kind.__name__} is not registered, so that a saved model could not name it; call "
                     f"rein_jax.register({what!r}, 'a name', {kind.__name__}) before.")


def _plain(value: Any) -> Any:
    """What JSON can hold."""
    if is_dataclass(value):
        return {key: _plain(item) for key, item in asdict(value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UserError(f"The option {value!r} is neither a number nor a text, so that a saved model could not state it; give it a name.")

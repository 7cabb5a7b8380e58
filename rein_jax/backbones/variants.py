"""The variants of a family, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from rein_jax import registry

Config = TypeVar("Config")


def get_variant(variants: Mapping[str, Config], name: str | Config | Mapping[str, Any], family: str) -> Config:
    """The config of a variant.

    Args:
        variants: the family's table, by short name ("vitl14").
        name: "dinov2_vitl14", or "vitl14", or a config itself, which is returned as it is, or its fields by name.
        family: the word in front of the short names ("dinov2").

    Raises:
        UserError: there is no variant of this name; it lists those that exist.
    """
    if isinstance(name, Mapping):  # read from a file
        kind = type(next(iter(variants.values())))
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in name.items()})
    if not isinstance(name, str):
        return name
    short = name.removeprefix(family + "_")
    if short not in variants:
        raise registry.unknown(name, [f"{family}_{variant}" for variant in variants], "backbone")
    return variants[short]

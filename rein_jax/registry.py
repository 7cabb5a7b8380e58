"""Registries are plain dicts `name -> "module:Name"`; this file resolves them, and nothing is imported before it is used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from data_pipelines.spelling import did_you_mean
from rein_jax.errors import UserError


def resolve(target: str) -> Any:
    """The object that "package.module:Name" names."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def load(registry: Mapping[str, str], name: str, what: str) -> Any:
    """The registered object, or a UserError that lists the names that exist."""
    if name not in registry:
        raise unknown(name, registry, what)
    return resolve(registry[name])


def unknown(name: str, known, what: str) -> UserError:
    """The error for a name that is not among the known ones."""
    return UserError(f"Unknown {what} {name!r}.{did_you_mean(name, known)} Known: {', '.join(sorted(known))}.")


def lazily(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose public names are imported on first use, so that importing the package stays cheap."""
    def __getattr__(name: str) -> Any:
        if name in names:
            return resolve(names[name])
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return __getattr__

"""Registries are plain dicts `name -> "module:Name"`; this file resolves them, and nothing is imported before it is used."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

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
    close = difflib.get_close_matches(str(name), list(known), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return UserError(f"Unknown {what} {name!r}.{hint} Known: {', '.join(sorted(known))}.")

"""The options of a section of a config, checked against the class that takes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from rein_jax import registry
from rein_jax.configuration import check as config_check


def plain(section: Any) -> Any:
    """A ConfigDict (and what it holds) as plain dicts, lists and values."""
    if hasattr(section, "items"):
        return {key: plain(value) for key, value in section.items()}
    return [plain(value) for value in section] if type(section) in (list, tuple) else section


def options_of(section: Mapping[str, Any], target: Callable, where: str,
               given=("rngs", "backbone", "adapter", "in_channels", "num_classes")) -> dict[str, Any]:
    """The options of a section without its name, checked against what the class takes."""
    names = accepted(target)
    chosen = {key: plain(value) for key, value in section.items() if key != "name"}
    for key in chosen:
        if key not in names or key in given:
            known = [name for name in names if name not in ("self", *given)]
            raise registry.unknown(f"{where}.{key}", [f"{where}.{name}" for name in known], f"option of {section['name']}")
        config_check.option(f"{where}.{key}", chosen[key], names[key])
    return {key: tuple(value) if isinstance(value, list) else value for key, value in chosen.items()}


def accepted(cls: type) -> dict[str, Any]:
    """{name: annotation} of the constructor's arguments, those passed on to a parent's constructor included."""
    names: dict[str, Any] = {}
    for owner in cls.__mro__:
        if "__init__" in vars(owner):
            parameters = inspect.signature(vars(owner)["__init__"]).parameters.values()
            names = {p.name: p.annotation for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)} | names
            if not any(p.kind == p.VAR_KEYWORD for p in parameters):
                break
    return names

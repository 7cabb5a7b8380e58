"""A part of a model that a config can name: it knows the options it was made with, so that a model can be saved with its config."""

from __future__ import annotations

import inspect
from typing import Any

from flax import nnx

GIVEN = ("rngs", "backbone", "adapter", "in_channels", "num_classes")  # follow from the rest of a model, or are drawn


class Component(nnx.Module):
    """Base of backbones, adapters and heads."""

    _options: tuple[tuple[str, Any], ...] = ()

    def __new__(cls, *args: Any, **kwargs: Any):
        self = super().__new__(cls)
        # A part of the graph's definition, so hashable; set past Flax, which is not ready before __init__.
        object.__setattr__(self, "_options", _given(cls, args, kwargs))
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The constructor's arguments that were given and that a config may state: {name: value}."""
        return dict(self._options)


def _given(cls: type, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """The arguments of a call of the class by name; mistakes are left for __init__ to refuse."""
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    named = {p.name: value for p, value in zip(parameters, args, strict=False) if p.kind is p.POSITIONAL_OR_KEYWORD}
    given = {name: _fixed(value) for name, value in {**named, **kwargs}.items() if name not in GIVEN}
    return tuple((name, value) for name, value in given.items() if not _is_data(value))


def _fixed(value: Any) -> Any:
    return tuple(map(_fixed, value)) if isinstance(value, list | tuple) else value


def _is_data(value: Any) -> bool:
    """Modules and arrays are no options."""
    return any(map(_is_data, value)) if isinstance(value, tuple) else nnx.is_data(value) or hasattr(value, "__array__")

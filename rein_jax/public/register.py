"""Names for your own classes, so that configs, the command line and saved models can use them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import data_pipelines
from rein_jax.adapters import ADAPTERS
from rein_jax.augment import AUGMENTS
from rein_jax.backbones import BACKBONES
from rein_jax.errors import UserError
from rein_jax.heads import HEADS
from rein_jax.losses import LOSSES
from rein_jax.registry import unknown

KINDS: dict[str, dict[str, Any]] = {
    "backbone": BACKBONES, "adapter": ADAPTERS, "head": HEADS, "loss": LOSSES, "augmentation": AUGMENTS, "dataset": data_pipelines.DATASETS,
}  # fmt: skip
Target = TypeVar("Target", bound=Callable[..., Any])


def register(kind: str, name: str, target: Target | None = None) -> Any:
    """Gives your own class a name that configs, the command line and saved models understand.

    Args:
        kind: "backbone", "adapter", "head", "loss", "augmentation" or "dataset".
        name: what `config.adapter.name` and the like then say.
        target: the class; of a data set what opens it, called with split=, its options, and source= if it takes one.
            None: the call is a decorator.

    Returns:
        The target, or the decorator.

    Raises:
        UserError: an unknown kind, or a name that something else has already.

    Example:
        @rj.register("adapter", "scale")
        class Scale(rj.Adapter): ...
    """
    if kind not in KINDS:
        raise unknown(kind, KINDS, "kind of part")
    if target is None:
        return lambda given: register(kind, name, given)
    known = KINDS[kind]
    if name in known and known[name] is not target and not _same(known[name], target):
        raise UserError(f"There is a {kind} called {name!r} already; choose another name.")
    known[name] = target
    return target


def _same(known: Any, target: Any) -> bool:
    """Whether the two are one class, also after its file was read again (a notebook's cell, say)."""
    path = f"{target.__module__}:{target.__qualname__}"
    return known == path or f"{getattr(known, '__module__', '')}:{getattr(known, '__qualname__', '')}" == path

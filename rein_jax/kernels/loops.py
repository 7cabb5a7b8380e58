"""Loops over independent items and over the layers of a stack: written as loops, or all at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from rein_jax.kernels.platforms import per_device, target


def map_items(function: Callable, arguments: Sequence[Any], *, sequential: bool = False) -> Any:
    """`function(*item)` over the leading axis of the arguments (trees of arrays).

    On a CPU, or where `sequential` asks for it to save memory, one item after the other: its arrays stay in the cache.
    """
    return FORMS["sequential" if sequential or target() == "cpu" else "reference"](function, arguments)


def map_bounded(function: Callable, arguments: Sequence[Any], bound: jax.Array) -> Any:
    """`function(*item, bound)` over the leading axis, where `bound` int [items] ends a loop inside the function.

    All at once, items split among devices, and one bound serves all, the largest: a loop whose end differs between items would write
    all that it has at every turn. On a CPU one item after the other, so that an index into a map is one number.
    """
    if target() == "cpu":
        return _sequential(function, (*arguments, bound))
    local = lambda bound, *arguments: _reference(lambda *item: function(*item, bound.max()), arguments)
    return per_device(local)(bound, *arguments)  # kernels inside see the images of a device


def unroll_convolutions(asked: bool) -> bool:
    """Whether a stack of convolutional blocks is written out in place of a loop: where `asked`, and always on a CPU.

    Inside a loop XLA leaves the gradients of convolutions in a form that its CPU backend has no quick routine for (a training step of
    ResNet-50 takes twenty times as long there).
    """
    return asked or target() == "cpu"


def _reference(function, arguments):
    return jax.vmap(function)(*arguments)


def _sequential(function, arguments):
    return jax.lax.map(lambda item: function(*item), tuple(arguments))


FORMS = {"reference": _reference, "sequential": _sequential}

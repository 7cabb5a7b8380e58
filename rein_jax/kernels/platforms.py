"""Which platform a program is being made for: operations that have a form of their own for one ask `target()` while they are traced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax

_chosen: ContextVar[str | None] = ContextVar("platform", default=None)


def target() -> str:
    """"cpu", "gpu" or "tpu": the platform of the enclosing `compiling_for`, else the one JAX runs on."""
    return _chosen.get() or jax.default_backend()


@contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """Programs traced inside are made for this platform, whatever this machine is."""
    token = _chosen.set(platform)
    try:
        yield
    finally:
        _chosen.reset(token)

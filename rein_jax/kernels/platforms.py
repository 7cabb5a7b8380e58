"""Which platform a program is being made for: operations that have a form of their own for one ask `target()` while they are traced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import jax
from jax.sharding import Mesh, PartitionSpec

_VMEM = {"TPU v2": 16, "TPU v3": 16, "TPU v4": 16, "TPU v5": 64, "TPU v5p": 64, "TPU7x": 64}  # MiB; 128 of v5e and v6e
_chosen: ContextVar[str | None] = ContextVar("platform", default=None)
_split: ContextVar[tuple[Mesh, PartitionSpec | None] | None] = ContextVar("split", default=None)  # no spec: by an outer `per_device`


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


@contextmanager
def images_split(mesh: Mesh, axes: Sequence[str]) -> Iterator[None]:
    """Programs traced inside split the first axis of their arrays, the images, over these axes of the mesh."""
    token = _split.set((mesh, PartitionSpec(tuple(axes))))
    try:
        yield
    finally:
        _split.reset(token)


def kernel_memory() -> int:
    """Bytes of fast memory (VMEM) a core of the TPU that a program is made for, for hand-written kernels; 0 where they cannot run.

    No compiler splits them among devices: they run where it is known how images are split, or where there is one device.
    """
    if target() != "tpu":
        return 0
    if split := _split.get():
        device = split[0].devices.flat[0]
    elif jax.default_backend() == "tpu" and jax.device_count() == 1:
        device = jax.devices()[0]
    else:
        return 0
    return _VMEM.get(device.device_kind, 128) * 2**20


def per_device(function: Callable) -> Callable:
    """A function of arrays, or trees of them, with images on the first axis, run by each TPU of `images_split` on the images that it has;
    the function itself elsewhere, and within another such function."""
    mesh, images = _split.get() or (None, None)
    if target() != "tpu" or images is None or mesh.size == 1:
        return function

    def alone(*arguments):
        token = _split.set((mesh, None))
        try:
            return function(*arguments)
        finally:
            _split.reset(token)

    return jax.shard_map(alone, mesh=mesh, in_specs=images, out_specs=images, check_vma=False)

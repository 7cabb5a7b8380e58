"""Where arrays live: the device mesh, path rules that split parameters over it, and the way from host to devices.

A mesh has the axes "data" and "fsdp". A batch is split over both; parameters are replicated, or split over "fsdp" as they wish
themselves (`trees.Wishes`) or by their size, or by rules `[(regex, PartitionSpec)]` of which the first match wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rein_jax.errors import UserError
from rein_jax.trees import PLAIN, FlatParams, Wishes, first_match

AXES = ("data", "fsdp")
SPLIT_FROM = 4 * 2**20  # bytes: splitting smaller arrays costs more in latency than it saves in memory

Rules = str | Sequence[tuple[str, P]]


def make_mesh(shape: Mapping[str, int] | None = None, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh ("data", "fsdp") over all devices; one size may be -1 (what is left). A shape that does not fit is a UserError."""
    shape = dict(shape or {"data": -1, "fsdp": 1})
    for key in shape:
        if key not in AXES:
            raise UserError(f"Unknown mesh axis mesh.{key}; the axes are mesh.data and mesh.fsdp.")
    sizes = [int(shape.get(axis, 1)) for axis in AXES]
    total = len(devices) if devices is not None else jax.device_count()
    free = [i for i, size in enumerate(sizes) if size == -1]
    if len(free) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise UserError(f"The mesh {shape} needs sizes of at least 1, with at most one -1.")
    if free:
        sizes[free[0]] = max(1, total // int(np.prod([size for size in sizes if size != -1])))
    if int(np.prod(sizes)) != total:
        raise UserError(f"The mesh {dict(zip(AXES, sizes, strict=True))} does not fill the {total} devices; "
                        "set mesh.data=-1 or sizes whose product is the number of devices.")
    types = (AxisType.Auto,) * len(AXES)
    if devices is not None:
        return Mesh(np.array(devices).reshape(sizes), AXES, axis_types=types)
    return jax.make_mesh(tuple(sizes), AXES, axis_types=types)


def replicated(mesh: Mesh) -> NamedSharding:
    """On every device, whole."""
    return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis split over all devices."""
    return NamedSharding(mesh, P(AXES))


def shard_flat(flat: Mapping[str, Any], mesh: Mesh, rules: Rules = "dp", wishes: Mapping[str, Wishes] = MappingProxyType({})
               ) -> dict[str, NamedSharding]:
    """{name: sharding} by the preset "dp" (all replicated), "fsdp" (as the arrays wish, large ones split), or by first-match rules."""
    if isinstance(rules, str):
        if rules not in ("dp", "fsdp"):
            raise UserError(f"Unknown sharding {rules!r}; choose 'dp' or 'fsdp'.")
        split = rules == "fsdp"
        specs = {name: fsdp_spec(array, wishes.get(name, PLAIN), mesh.shape["fsdp"]) if split else P() for name, array in flat.items()}
    else:
        specs = first_match(rules, flat)
    for name, spec in specs.items():
        _check(name, flat[name].shape, spec, mesh)
    return {name: NamedSharding(mesh, spec) for name, spec in specs.items()}


def fsdp_spec(array: Any, wishes: Wishes, parts: int) -> P:
    """What the array wishes, else for arrays over 4 MB the largest axis that `parts` divides; never an axis of a stack."""
    if wishes.sharding is not None:
        return wishes.sharding
    size = int(np.prod(array.shape)) * np.dtype(array.dtype).itemsize
    axes = [i for i in range(wishes.stacked, len(array.shape)) if array.shape[i] % parts == 0]
    if parts == 1 or size < SPLIT_FROM or not axes:
        return P()
    axis = max(axes, key=lambda i: array.shape[i])
    return P(*("fsdp" if i == axis else None for i in range(axis + 1)))


def _check(name: str, shape: Sequence[int], spec: P, mesh: Mesh) -> None:
    """A rule must fit the array it picks."""
    if len(spec) > len(shape):
        raise UserError(f"The sharding {spec} of {name!r} has more axes than its shape {tuple(shape)}; shorten it.")
    for size, axes in zip(shape, spec, strict=False):
        names = axes if isinstance(axes, tuple) else (axes,) if axes else ()
        for axis in names:
            if axis not in mesh.shape:
                raise UserError(f"The sharding {spec} of {name!r} names the axis {axis!r}; a mesh has {' and '.join(map(repr, AXES))}.")
        parts = int(np.prod([mesh.shape[axis] for axis in names]))
        if size % parts:
            raise UserError(f"The sharding {spec} splits an axis of {size} of {name!r} in {parts}; choose another axis.")


def shard_like(tree: Any, shardings: Mapping[str, NamedSharding], flat: Mapping[str, Any], mesh: Mesh) -> Any:
    """Shardings for a tree that holds copies of `flat` (optimizer moments, EMA): a leaf follows its parameter."""
    whole = replicated(mesh)

    def one(path, leaf):
        names = [str(getattr(key, "key", "")) for key in path]
        for name in names:
            if name in flat and tuple(flat[name].shape) == tuple(leaf.shape):
                return shardings[name]
        return whole

    return jax.tree_util.tree_map_with_path(one, tree)


def place(tree: Any, shardings: Any) -> Any:
    """Arrays that every process holds whole -> global arrays with the given shardings, never aliasing the originals.

    A copy matters because the trainer donates its state: a donated alias would delete the caller's array.
    """
    def one(array, sharding):
        host = np.asarray(array)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: np.array(host[index], copy=True))

    return jax.tree.map(one, tree, shardings)


def place_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's part of a batch -> global arrays split over all devices (leading axes of the processes add up)."""
    sharding, processes = batch_sharding(mesh), jax.process_count()
    return {name: jax.make_array_from_process_local_data(sharding, array, (len(array) * processes, *array.shape[1:]))
            for name, array in batch.items()}


def gather(flat: Mapping[str, jax.Array]) -> FlatParams:
    """Global arrays -> whole NumPy arrays on every process (a collective where arrays are split over processes)."""
    from jax.experimental import multihost_utils

    def whole(array) -> np.ndarray:
        if getattr(array, "is_fully_addressable", True) or array.is_fully_replicated:
            return np.asarray(array)
        return np.asarray(multihost_utils.process_allgather(array, tiled=True))

    return {name: whole(array) for name, array in flat.items()}

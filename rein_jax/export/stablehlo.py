"""StableHLO through jax.export: one file for CPU, CUDA and TPU, any batch size, versioned by JAX's compatibility promise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.atomic import write_atomically
from data_pipelines.paths import local_path
from rein_jax.errors import UserError
from rein_jax.export.program import fitting

PLATFORMS = ("cpu", "cuda", "tpu")


def write(run: Callable, size: tuple[int, int], path: Path) -> None:
    """Exports `run` (uint8 [B, H, W, 3] -> array) for all platforms with a free batch size and writes it."""
    from jax import export

    batch, = export.symbolic_shape("b")
    with jax.default_matmul_precision("highest"):
        exported = export.export(jax.jit(run), platforms=PLATFORMS)(jax.ShapeDtypeStruct((batch, *size, 3), jnp.uint8))
    write_atomically(path, bytes(exported.serialize()))


def read(path: str | Path) -> Callable[[Any], np.ndarray]:
    """The program of a file that `write` made: uint8 [B, H, W, 3] -> array, on JAX's default device."""
    from jax import export

    file = local_path(path)
    try:
        exported = export.deserialize(bytearray(file.read_bytes()))
    except Exception as error:  # what a damaged buffer raises depends on where it is damaged
        raise UserError(f"{path} is not a program that rein export wrote ({type(error).__name__}); export it again.") from None
    call = jax.jit(exported.call)
    sides = tuple(exported.in_avals[0].shape)[1:]
    return lambda images: np.asarray(call(fitting(images, sides, path)))

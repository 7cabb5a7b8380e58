"""After loading: does the backbone compute something sensible? Catches what names and shapes cannot."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rein_jax import trees
from rein_jax.errors import UserError


def first_map_statistics(backbone, what: str, size: int = 64) -> dict[str, float]:
    """Statistics of the first feature map for a smooth colour pattern of size x size pixels; one that is not finite, constant or
    absurdly large is a UserError. backbone: a built one, with values. Runs one small forward pass in float32.
    """
    ramp = np.linspace(-1.5, 1.5, size, dtype=np.float32)
    image = np.stack([ramp[:, None] + 0 * ramp, ramp + 0 * ramp[:, None], np.sin(3 * ramp[:, None] * ramp)], axis=-1)
    module_def, _, params = trees.split(backbone, ())
    first = np.asarray(jax.jit(lambda p, x: trees.merge(module_def, p)(x)[0])(params, jnp.asarray(image[None])), np.float32)
    found = {"mean": float(first.mean()), "std": float(first.std()), "smallest": float(first.min()), "largest": float(first.max())}
    if not np.isfinite(first).all():
        raise UserError(f"{what}: the first feature map holds values that are not finite; the weights are damaged.")
    if found["std"] < 1e-6 or found["std"] > 1e5:
        raise UserError(f"{what}: the first feature map has a standard deviation of {found['std']:.3g}; the weights are damaged or "
                        "belong to another model.")
    return found

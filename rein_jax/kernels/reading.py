"""Maps read at points that are given, not learned: the bilinear sampler without a gradient of the points."""

from __future__ import annotations

import jax

from rein_jax.kernels.platforms import kernel_memory
from rein_jax.kernels.reading_tpu import read_by_products, suits
from rein_jax.kernels.sampling import sample


def read(maps: jax.Array, points: jax.Array) -> jax.Array:
    """Each map read at its own points.

    Args:
        maps: [..., H, W].
        points: float32 [..., n, 2] with the same leading axes, (x, y) in [0, 1]; zero is read outside. They take no gradient.

    Returns:
        [..., n], in the dtype of the maps.
    """
    return FORMS["products" if suits(maps, points, kernel_memory()) else "reference"](maps, jax.lax.stop_gradient(points))


FORMS = {"reference": sample, "products": read_by_products}
"""Each form is called with points that take no gradient."""

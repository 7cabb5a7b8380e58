"""Rein in JAX: segmentation on frozen vision foundation models that holds up in places and weather never seen.

The names below are the stable public API; everything else may move.
"""

from rein_jax.registry import lazily

__version__ = "0.1.0"
_PUBLIC = {
    "load": "rein_jax.build:load",
    "build_segmenter": "rein_jax.build:build_segmenter",
    "evaluate": "rein_jax.evaluation:evaluate",
}
__all__ = sorted(_PUBLIC)
__getattr__ = lazily(__name__, _PUBLIC)

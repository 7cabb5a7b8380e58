"""Rein in JAX: segmentation on frozen vision foundation models that holds up in places and weather never seen.

The names below are the stable public API; everything else may move.
"""

__version__ = "0.1.0"
_PUBLIC = {
    "load": "rein_jax.build:load",
    "build_segmenter": "rein_jax.build:build_segmenter",
    "evaluate": "rein_jax.evaluation:evaluate",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    """Public names are imported on first use, so that `import rein_jax` stays cheap."""
    if name in _PUBLIC:
        from rein_jax.registry import resolve

        return resolve(_PUBLIC[name])
    raise AttributeError(f"module 'rein_jax' has no attribute {name!r}")

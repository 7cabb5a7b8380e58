"""Predictions for files: images, folders, globs and videos in; label PNGs, overlays, confidence and entropy out.

The names below are imported on first use.
"""

from rein_jax.registry import resolve

_PUBLIC = {"Summary": "rein_jax.predict.run:Summary", "predict_files": "rein_jax.predict.run:predict_files"}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name in _PUBLIC:
        return resolve(_PUBLIC[name])
    raise AttributeError(f"module 'rein_jax.predict' has no attribute {name!r}")

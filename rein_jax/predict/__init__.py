"""Predictions for files: images, folders, globs and videos in; label PNGs, overlays, confidence and entropy out.

The names below are imported on first use.
"""

from rein_jax.registry import lazily

_PUBLIC = {"Summary": "rein_jax.predict.run:Summary", "predict_files": "rein_jax.predict.run:predict_files"}
__all__ = sorted(_PUBLIC)
__getattr__ = lazily(__name__, _PUBLIC)

"""Predictions for files: images, folders, globs and videos in; label PNGs, overlays, confidence and entropy out."""

from rein_jax.predict.run import Summary, predict_files

__all__ = ["Summary", "predict_files"]

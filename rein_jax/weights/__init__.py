"""Weights of other codes: `read_checkpoint(path)` reads any of their files without torch and without running code inside them."""

from rein_jax.weights.checkpoint import read_checkpoint

__all__ = ["read_checkpoint"]

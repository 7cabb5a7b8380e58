"""A model as one program for other runtimes: StableHLO (CPU, CUDA, TPU) or ONNX."""

from rein_jax.export import stablehlo
from rein_jax.export.program import Plan
from rein_jax.export.run import export_model

__all__ = ["Plan", "export_model", "stablehlo"]

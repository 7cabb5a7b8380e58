"""Evaluation of a model on domains: sliding windows, whole images, exact metrics. The names below are imported on first use."""

from rein_jax.registry import resolve

_PUBLIC = {
    "evaluate": "rein_jax.evaluation.evaluator:evaluate",
    "Predictor": "rein_jax.evaluation.windows:Predictor",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name in _PUBLIC:
        return resolve(_PUBLIC[name])
    raise AttributeError(f"module 'rein_jax.evaluation' has no attribute {name!r}")

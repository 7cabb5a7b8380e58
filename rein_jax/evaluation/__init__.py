"""Evaluation of a model on domains: sliding windows, whole images, exact metrics. The names below are imported on first use."""

from rein_jax.registry import lazily

_PUBLIC = {
    "evaluate": "rein_jax.evaluation.evaluator:evaluate",
    "Predictor": "rein_jax.evaluation.windows:Predictor",
}
__all__ = sorted(_PUBLIC)
__getattr__ = lazily(__name__, _PUBLIC)

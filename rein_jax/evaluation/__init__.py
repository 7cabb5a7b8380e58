"""Sliding-window evaluation, exact metrics and reports. The names below are imported on first use."""

from rein_jax.registry import resolve

_PUBLIC = {
    "evaluate": "rein_jax.evaluation.evaluator:evaluate",
    "load_results": "rein_jax.evaluation.results:load_results",
    "Results": "rein_jax.evaluation.results:Results",
    "Predictor": "rein_jax.evaluation.windows:Predictor",
    "write_report": "rein_jax.evaluation.report:write_report",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name in _PUBLIC:
        return resolve(_PUBLIC[name])
    raise AttributeError(f"module 'rein_jax.evaluation' has no attribute {name!r}")

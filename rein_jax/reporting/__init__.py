"""What an evaluation found: results.json, tables, galleries and the page of a run. The names below are imported on first use."""

from rein_jax.registry import resolve

_PUBLIC = {
    "load_results": "rein_jax.reporting.results:load_results",
    "Results": "rein_jax.reporting.results:Results",
    "write_report": "rein_jax.reporting.report:write_report",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name in _PUBLIC:
        return resolve(_PUBLIC[name])
    raise AttributeError(f"module 'rein_jax.reporting' has no attribute {name!r}")

"""What an evaluation found: results.json, tables, galleries and the page of a run. The names below are imported on first use."""

from rein_jax.registry import lazily

_PUBLIC = {
    "load_results": "rein_jax.reporting.results:load_results",
    "Results": "rein_jax.reporting.results:Results",
    "write_report": "rein_jax.reporting.report:write_report",
}
__all__ = sorted(_PUBLIC)
__getattr__ = lazily(__name__, _PUBLIC)

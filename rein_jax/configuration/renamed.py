"""Config keys that had another name once: runs, model files and results written before keep loading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The one table, old key -> new key.
RENAMED = {
    "backbone.taps": "backbone.out_indices",
    "adapter.tokens": "adapter.num_tokens",
    "head.queries": "head.num_queries",
}


def current(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config as plain dicts with today's names; a key that is there under its new name keeps that value."""
    new = {key: dict(value) if isinstance(value, Mapping) else value for key, value in config.items()}
    rename(new)
    return new


def rename(config: Any) -> None:
    """Give the keys of a config, nested dicts or an unlocked ConfigDict, today's names in place."""
    for old, name in RENAMED.items():
        (section, before), after = old.split("."), name.split(".")[1]
        keys = config.get(section)
        if hasattr(keys, "keys") and before in keys:
            value = keys[before]
            del keys[before]
            if after not in keys:
                keys[after] = value

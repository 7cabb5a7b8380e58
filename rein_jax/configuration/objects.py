"""Python objects in a config beside names: their form in config.json and in the metadata of checkpoints and model files.

A config may hold a data source, an optax transformation, a loss or a class of one's own where it otherwise names a registered one. Files
state them as {"object": "package.module:Name"}, which tells one from another when a run is resumed. Reading a file never imports what it
states.
"""

from __future__ import annotations

from typing import Any


def stated(config: Any) -> Any:
    """A config as JSON can hold it: tuples as lists, objects by their type's name, and a data source with its fingerprint."""
    if hasattr(config, "items"):
        return {str(key): stated(value) for key, value in config.items()}
    if type(config) in (list, tuple):
        return [stated(value) for value in config]
    if config is None or isinstance(config, bool | int | float | str):
        return config
    if hasattr(config, "tolist") and hasattr(config, "dtype"):
        return config.tolist()
    entry = {"object": path_of(config)}
    if callable(getattr(config, "fingerprint", None)) and not isinstance(config, type):
        entry["fingerprint"] = str(config.fingerprint())
    return entry


def path_of(thing: Any) -> str:
    """"package.module:Name" of a class or function, or of the class of any other object."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}:{named.__qualname__}"


def is_stated(value: Any) -> bool:
    """Whether a value read from a file stands for an object."""
    return hasattr(value, "items") and "object" in value

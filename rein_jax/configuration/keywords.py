"""A config from Python: a family and keyword arguments in place of a command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from rein_jax.configuration.arguments import escaped
from rein_jax.configuration.defaults import default
from rein_jax.configuration.files import arguments, assign, load
from rein_jax.registry import unknown


def config(family: str | None = None, **settings: Any) -> ConfigDict:
    """The config of an experiment.

    Args:
        family: a config that comes with the package ("gta_to_cbm", "folder", "quickstart", ...), a file of one's own, or None for the
            defaults alone.
        **settings: arguments of the family (backbone="dinov2_l", method="rein"); a section with its keys (train={"steps": 5}); one key of a
            section, with an underscore (data_root="/data", train_steps=5) or, in a dict, a dot (**{"train.steps": 5}).

    Returns:
        The config that `rj.train` takes. Its keys may be changed; what no part reads is refused when the run is built.

    Raises:
        UserError: an unknown family or keyword, or a value of another type than the key's.

    Example:
        config = rj.config("gta_to_cbm", backbone="dinov2_l", method="rein", data_root="/data", train_steps=1000)
    """
    known = {} if family is None else arguments(family)
    made = default() if family is None else None
    sections = [key for key, value in default().items() if isinstance(value, ConfigDict)]
    texts, keys = {}, {}
    for name, value in settings.items():
        if name in known and not isinstance(value, Mapping):
            texts[name] = _text(value)
        else:
            keys.update(_keys(name, value, sections, known))
    if family is not None:
        made = load(f"{family}:{','.join(f'{k}={escaped(v)}' for k, v in texts.items())}" if texts else family)
    made.unlock()
    for path, value in keys.items():
        assign(made, path, value)
    return made


def _keys(name: str, value: Any, sections: list[str], known: Mapping[str, str]) -> dict[str, Any]:
    """{"train.steps": 5} of one keyword argument."""
    if "." in name:
        return {name: value}
    if name in sections and isinstance(value, Mapping):
        return {f"{name}.{key}": item for key, item in value.items()}
    top = [key for key in default() if key not in sections]
    if name in top or name in sections:
        return {name: value}
    section = next((section for section in sections if name.startswith(f"{section}_")), None)
    if section is None:
        raise unknown(name, [*known, *top, *sections], "keyword of rj.config")
    return {f"{section}.{name.removeprefix(f'{section}_')}": value}


def _text(value: Any) -> str:
    """A value as the command line would write it."""
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    return {True: "true", False: "false", None: "none"}[value] if value is None or isinstance(value, bool) else str(value)

"""A config from Python: a family and keyword arguments in place of a command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from rein_jax.configuration.arguments import escaped
from rein_jax.configuration.defaults import default
from rein_jax.configuration.files import arguments, assign, load, local
from rein_jax.errors import UserError
from rein_jax.registry import unknown

PARTS = ("backbone", "adapter", "head", "loss", "augment")  # sections that a class may stand for
PLAIN = bool | int | float | str | list | tuple | os.PathLike | None


def config(family: str | os.PathLike | None = None, **settings: Any) -> ConfigDict:
    """The config of an experiment.

    Args:
        family: a config that comes with the package ("gta_to_cbm", "folder", "quickstart", ...), a file of your own, or None for the
            defaults alone.
        **settings: arguments of the family (backbone="dinov2_l", method="rein"); a section with its keys (train={"steps": 5}); one key of a
            section, with an underscore (data_root="/data", train_steps=5) or, in a dict, a dot (**{"train.steps": 5}); or a class of one's
            own for the section backbone, adapter, head, loss or augment (head=MyHead), whose options then begin at the class's defaults.

    Returns:
        The config that `rj.train` takes. Its keys may be changed; what no part reads is refused when the run is built.

    Raises:
        UserError: an unknown family or keyword, or a value of another type than the key's.

    Example:
        config = rj.config("gta_to_cbm", backbone="dinov2_l", method="rein", data_root="/data", train_steps=1000)
    """
    if not isinstance(family, str | os.PathLike | None):
        raise UserError(f"rj.config was given {family!r} as a family; give the name or the file of a config.")
    family, _, given = ("" if family is None else os.fspath(family)).partition(":")
    known = arguments(family) if family else {}
    sections = [key for key, value in default().items() if isinstance(value, ConfigDict)]
    texts, parts, keys = [given] if given else [], {}, {}
    for name, value in settings.items():
        if name in PARTS and not isinstance(value, PLAIN | Mapping):
            parts[name] = value
        elif name in known and not isinstance(value, Mapping):
            texts.append(f"{name}={escaped(_text(name, value))}")
        else:
            keys.update(_keys(name, value, sections, known))
    made = load(f"{family}:{','.join(texts)}" if texts else family) if family else default()
    made.unlock()
    for name, value in parts.items():
        made[name] = {**made.backbone, "name": value, "options": {}} if name == "backbone" else {"name": value}
    for path, value in keys.items():
        assign(made, path, value)
    local(made.to_dict())
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


def _text(name: str, value: Any) -> str:
    """A value as the command line would write it."""
    if isinstance(value, list | tuple):
        return ",".join(_text(name, item) for item in value)
    if not isinstance(value, PLAIN):
        raise UserError(f"The keyword {name} of rj.config is {value!r}; give a text, a number, true or false, None, or a list of them.")
    return {True: "true", False: "false", None: "none"}[value] if value is None or isinstance(value, bool) else str(value)

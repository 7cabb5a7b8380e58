"""Config files: finding and loading one, overriding its keys from the command line, and its form as JSON.

A config is a Python file with `get_config(arg=None) -> ml_collections.ConfigDict`, named by path (`configs/x.py`), by path and
argument (`configs/x.py:large`), or by its name among the packaged ones (`x`). A `config.json` of a workdir loads too.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from data_pipelines.errors import DataError
from data_pipelines.paths import ELSEWHERE, local_path
from data_pipelines.spelling import did_you_mean
from rein_jax.configuration.objects import stated
from rein_jax.configuration.renamed import RENAMED, current, rename
from rein_jax.configuration.training import defaults
from rein_jax.errors import UserError, read_json

PREFIX = "--config."
# Sections whose keys are options of a class: any may be set, those not spelt in the file too; building checks them against the class.
OPEN = ("adapter", "head", "loss", "augment", "backbone.options")
ENTRY = re.compile(r"(data\.train|eval\.domains)\.\d+")  # one data set; opening it checks the keys against its options


def load(name: str, overrides: Iterable[str] = ()) -> ConfigDict:
    """The config `name` with the trainer's defaults filled in and `overrides` ("train.steps=100") applied, locked."""
    if name.endswith(".json"):
        config = from_json(_read_json(local_path(name)))
    else:
        config = _call(*_module(name))
        with config.unlocked():
            rename(config)  # the file may have been written before
    complete(config, defaults())
    for override in overrides:
        apply(config, override)
    local(config.to_dict())
    return config.lock()


def local(section: Any, key: str = "config") -> None:
    """Refuse a value, at any depth, that is the address of a store or another machine: nothing here would read or write there."""
    if isinstance(section, Mapping | list | tuple):
        for name, value in section.items() if isinstance(section, Mapping) else enumerate(section):
            local(value, f"{key}.{name}")
    elif isinstance(section, str) and ELSEWHERE.match(section):
        try:
            local_path(section)
        except DataError as error:
            raise UserError(f"{key}: {error}") from None


def arguments(name: str) -> dict[str, str]:
    """The arguments that a config file takes after its colon, with their defaults: its `ARGS`; {} where it names none."""
    return {} if name.endswith(".json") else dict(getattr(_module(name)[0], "ARGS", {}))


def complete(config: ConfigDict, values: Mapping[str, Any]) -> None:
    """Set the keys that the config lacks, at any depth."""
    with config.unlocked():
        for key, value in values.items():
            if key not in config:
                config[key] = ConfigDict(value) if isinstance(value, Mapping) else value
            elif isinstance(value, Mapping) and isinstance(config[key], ConfigDict):
                complete(config[key], value)


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """(overrides without their prefix, other arguments): "--config.a.b=1" and "--config.a.b 1" are both understood."""
    overrides, rest, items = [], [], iter(argv)
    for item in items:
        if not item.startswith(PREFIX):
            rest.append(item)
            continue
        if "=" not in item:
            value = next(items, None)
            if value is None:
                raise UserError(f"{item} needs a value: {item}=VALUE.")
            item = f"{item}={value}"
        overrides.append(item[len(PREFIX):])
    return overrides, rest


def apply(config: ConfigDict, override: str) -> None:
    """Set one key, "train.steps=100"; an unknown key or a value of another type is a UserError that names it.

    Elements of lists are addressed by their index: "data.train.0.source=/data/camvid".
    """
    path, equals, text = override.partition("=")
    if not equals:
        raise UserError(f"The override {override!r} needs the form KEY=VALUE.")
    _set(config, path, lambda old: _value(path, old, text))


def assign(config: ConfigDict, path: str, value: Any) -> None:
    """`apply` for a value of Python, `assign(config, "train.steps", 100)`; a mapping updates the section of that name."""
    if isinstance(value, Mapping) and isinstance(_at(config, path), ConfigDict | Mapping):
        for key, item in value.items():
            assign(config, f"{path}.{key}", item)
        return
    _set(config, path, lambda old: _fitting(path, old, value))


def _at(config: ConfigDict, path: str) -> Any:
    """What lies at a path, or None."""
    found: Any = config
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping | ConfigDict) else None
    return found


def _set(config: ConfigDict, path: str, value_of: Callable[[Any], Any]) -> None:
    """Put `value_of(the old value)` at a path; an unknown key is a UserError."""
    section, keys = config, RENAMED.get(path, path).split(".")
    for depth, key in enumerate(keys):
        if isinstance(section, (list, tuple)) and key.isdigit() and int(key) < len(section):
            key = keys[depth] = int(key)
        elif not isinstance(section, Mapping | ConfigDict) or key not in section:
            if depth == len(keys) - 1 and _is_option(".".join(map(str, keys[:depth])), key):
                break
            raise _unknown(path, ".".join(map(str, keys[:depth])), key, section)
        if depth < len(keys) - 1:
            section = section[key]
    value = value_of(section.get(keys[-1]) if isinstance(section, Mapping | ConfigDict) else section[keys[-1]])
    if isinstance(section, ConfigDict):
        with section.unlocked(), section.ignore_type():
            section[keys[-1]] = value
    elif isinstance(section, tuple):
        apply(config, f"{'.'.join(map(str, keys[:-1]))}={(*section[:keys[-1]], value, *section[keys[-1] + 1:])!r}")
    else:
        section[keys[-1]] = value


def _fitting(path: str, old: Any, value: Any) -> Any:
    """A value of Python in place of the old one: of its type, a number for a float, or an object, which its part will check."""
    if isinstance(old, ConfigDict):
        keys = ", ".join(f"{path}.{key}" for key in sorted(old))
        raise UserError(f"The config key {path!r} is a section; set one of its keys: {keys}.")
    if old is None or type(value) is type(old) or not isinstance(value, bool | int | float | str | list | tuple):
        return value
    if isinstance(old, float) and type(value) is int:
        return float(value)
    if isinstance(old, list | tuple) and isinstance(value, list | tuple):
        return type(old)(value)
    raise UserError(f"The config key {path!r} needs a value of type {type(old).__name__}, such as {old!r}, not {value!r}.")


def _is_option(section: str, key: str) -> bool:
    """May a key that the config does not spell be set in this section?"""
    if section == "optim":
        from rein_jax.optim import OptimConfig

        return key in OptimConfig.__dataclass_fields__
    return section in OPEN or bool(ENTRY.fullmatch(section))


def _unknown(path: str, prefix: str, key: str, section: Any) -> UserError:
    if not isinstance(section, Mapping | ConfigDict):
        return UserError(f"Unknown config key {path!r}: {prefix!r} is a value, not a section.")
    before = f"{prefix}." if prefix else ""
    hint = did_you_mean(key, section, f"'{before}{{}}'")
    return UserError(f"Unknown config key {path!r}." + (hint or f" Known: {', '.join(before + name for name in sorted(section))}."))


def _value(path: str, old: Any, text: str) -> Any:
    """The text as a value of the same type as the old one; a key that holds None takes any literal or a text."""
    if isinstance(old, ConfigDict):
        keys = ", ".join(f"{path}.{key}" for key in sorted(old))
        raise UserError(f"The config key {path!r} is a section; set one of its keys: {keys}.")
    if isinstance(old, str):
        return text
    if isinstance(old, bool):
        if text.lower() not in ("true", "false", "1", "0"):
            raise UserError(f"The config key {path!r} needs true or false, not {text!r}.")
        return text.lower() in ("true", "1")
    try:
        new = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        new = {"true": True, "false": False}.get(text.lower(), text)  # the text "false" would count as true
    if old is None or (isinstance(old, float) and type(new) is int):
        return new if old is None else float(new)
    if isinstance(old, (tuple, list)):
        if not isinstance(new, (tuple, list)):
            new = tuple(part.strip() for part in text.split(",")) if isinstance(new, str) else (new,)
        return type(old)(new)
    if type(new) is not type(old):
        raise UserError(f"The config key {path!r} needs a value of type {type(old).__name__}, such as {old!r}, not {text!r}.")
    return new


def _module(name: str) -> tuple[Any, str | None]:
    """(module of a config file, its argument)."""
    if ELSEWHERE.match(name):
        local_path(name)
    path, _, argument = name.partition(":")
    file = local_path(path)
    if file.suffix == ".py" and file.exists() and not file.is_file():  # reading a FIFO would wait for its writer
        raise UserError(f"The config {path} is not a regular file; name a file of Python.")
    try:
        if file.suffix == ".py" and file.exists():
            spec = importlib.util.spec_from_file_location(f"rein_config_{file.stem}", file)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(f"configs.{_packaged(path)}")
    except SyntaxError as error:
        raise UserError(f"The config {path} is not valid Python: {error.msg} (line {error.lineno}).") from None
    if not callable(getattr(module, "get_config", None)):
        raise UserError(f"The config {path} has no function get_config(arg=None).")
    return module, argument or None


def _packaged(path: str) -> str:
    """The name below the package `configs` of "x", "configs.x" or "configs/x.py"."""
    stem = path.removesuffix(".py").replace("/", ".").removeprefix("configs.")
    names = packaged()
    if stem not in names:
        hint = did_you_mean(stem.replace(".", "/"), [name.replace(".", "/") for name in names], "configs/{}.py")
        raise UserError(f"There is no config {path!r}." + (hint or f" Known: {', '.join(names)}."))
    return stem


def packaged() -> list[str]:
    """Names of the configs that come with the package."""
    root = Path(importlib.util.find_spec("configs").submodule_search_locations[0])
    files = (path.relative_to(root).with_suffix("") for path in root.rglob("*.py") if not path.name.startswith("_"))
    return sorted(".".join(path.parts) for path in files)


def _call(module: Any, argument: str | None) -> ConfigDict:
    """get_config with or without the argument."""
    takes = inspect.signature(module.get_config).parameters
    if argument is not None and not takes:
        raise UserError(f"The config {module.__name__.removeprefix('rein_config_')} takes no argument, {argument!r} was given.")
    required = [p for p in takes.values() if p.default is inspect.Parameter.empty]
    config = module.get_config(argument) if argument is not None or required else module.get_config()
    if not isinstance(config, ConfigDict):
        raise UserError(f"get_config of {module.__name__} returns {type(config).__name__}, not a ConfigDict.")
    return config


def to_json(config: ConfigDict | Mapping[str, Any]) -> str:
    """JSON text with sorted keys; tuples become lists."""
    return json.dumps(stated(config), indent=1, sort_keys=True)


def from_json(plain: Mapping[str, Any]) -> ConfigDict:
    """The config of a `config.json` or a model file's metadata; lists become tuples."""
    def back(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: back(item) for key, item in value.items()}
        return tuple(back(item) for item in value) if isinstance(value, list) else value

    return ConfigDict(back(current(plain)))


def _read_json(path: Path) -> dict:
    try:
        return read_json(path, "restore it, or name the config file the run began with")
    except FileNotFoundError:
        raise UserError(f"There is no config file {path}.") from None

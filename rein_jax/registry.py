"""Registries are plain dicts `name -> "module:Name"`; this file resolves them, and nothing is imported before it is used."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data_pipelines.spelling import did_you_mean
from rein_jax.errors import UserError


def resolve(target: str) -> Any:
    """The object that "package.module:Name" names, or the module "package.module"."""
    module, _, name = target.partition(":")
    found = importlib.import_module(module)
    return getattr(found, name) if name else found


def load(registry: Mapping[str, Any], name: Any, what: str) -> Any:
    """The object that a config names.

    Args:
        registry: name -> the object itself, or "package.module:Name".
        name: a registered name, or the object itself, which is returned as it is.
        what: kind of thing, for messages.

    Raises:
        UserError: there is no such name; it lists those that exist.
    """
    if hasattr(name, "items"):  # {"object": "package.module:Name"} of a file: never imported, only looked for among what is here
        name = str(name.get("object"))
        found = next((kind for kind in [*registry.values(), *_USED] if not isinstance(kind, str) and _path(kind) == name), None)
        if found is None:
            raise UserError(f"The {what} is {name}, which is not known here; import the module that defines it, and register it by "
                            f"rein_jax.register({what!r}, 'a name', {name.rpartition(':')[2]}).")
        return found
    if not isinstance(name, str):
        if name not in _USED:
            _USED.append(name)
        return name
    if name not in registry:
        raise unknown(name, registry, what)
    target = registry[name]
    return resolve(target) if isinstance(target, str) else target


_USED: list[Any] = []  # classes that configs of this process held themselves, so that what they trained is loaded in it


def _path(kind: Any) -> str:
    return f"{getattr(kind, '__module__', '')}:{getattr(kind, '__qualname__', '')}"


def name_of(registry: Mapping[str, Any], kind: type) -> str | None:
    """The name under which a class is registered, or None."""
    return next((name for name, target in registry.items() if target is kind or target == _path(kind)), None)


def unknown(name: str, known, what: str) -> UserError:
    """The error for a name that is not among the known ones."""
    return UserError(f"Unknown {what} {name!r}.{did_you_mean(name, known)} Known: {', '.join(sorted(known))}.")


def typed_names(package: str, file: str) -> dict[str, str]:
    """What a package's `if TYPE_CHECKING:` block imports, for `lazily`: type checkers and users then read one list.

    Args:
        package: its name; file: its __init__.py.

    Returns:
        {name: target for `resolve`}.
    """
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    imports = [(node.module, alias.name) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    return {name: f"{module}.{name}" if module == package else f"{module}:{name}" for module, name in imports}


def lazily(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose public names are imported on first use, so that importing the package stays cheap."""
    def __getattr__(name: str) -> Any:
        if name in names:
            return resolve(names[name])
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return __getattr__

"""Is the public API documented? Read from the source by Griffe, so nothing of the package is imported.

    python scripts/docs_reference.py        prints what lacks; exit code 1 if anything does
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import griffe

ROOT = Path(__file__).parents[1]
PACKAGES = ("rein_jax", *(f"rein_jax.{name}" for name in ("adapters", "backbones", "data", "export", "heads", "losses")))
ENTRY = re.compile(r"^::: (\S+)", re.M)


def faults() -> list[str]:
    """One sentence for every public name, method or property without a docstring or without an entry in docs/reference, and for every
    entry of something that is not public."""
    loader = griffe.GriffeLoader(search_paths=[str(ROOT)])
    loader.load("rein_jax")
    loader.load("data_pipelines")
    loader.resolve_aliases(implicit=True)
    pages = "\n".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs/reference").glob("*.md")))
    entries = ENTRY.findall(pages)
    public = dict(public_names(loader))
    shown = {public[entry].canonical_path for entry in entries if entry in public}
    found = [f"docs/reference: {entry} is not a public name of rein_jax." for entry in entries if entry not in public]
    for name, thing in public.items():
        if thing.canonical_path not in shown:
            found.append(f"{name} is public and has no entry `::: {name}` in docs/reference.")
        found += [f"{path} is public and has no docstring." for path in undocumented(name, thing)]
    return list(dict.fromkeys(found))


def public_names(loader: griffe.GriffeLoader) -> Iterator[tuple[str, griffe.Object]]:
    """What the packages list in `__all__` or import under `if TYPE_CHECKING:`, and the functions and classes of their modules."""
    for package in PACKAGES:
        module = loader.modules_collection[package]
        for name, member in module.members.items():
            if not listed(module, name, member):
                continue
            thing = member.final_target if member.is_alias else member
            if not thing.is_module:
                yield f"{package}.{name}", thing


def listed(module: griffe.Module, name: str, member: griffe.Object | griffe.Alias) -> bool:
    """Is this name of a package public?"""
    if module.exports:
        return name in map(str, module.exports)
    if module.is_init_module:
        return member.is_alias and not member.runtime
    return not name.startswith("_") and not member.is_alias and (member.is_function or member.is_class)


def undocumented(name: str, thing: griffe.Object) -> Iterator[str]:
    """A name without a docstring, and the public methods and properties of a class that have none, their own or inherited."""
    if not thing.has_docstring:
        yield name
    for key, member in thing.members.items() if thing.is_class else ():
        method = member.is_function or (member.is_attribute and "property" in member.labels)
        above = (base.members.get(key) for base in thing.mro()) if method else ()
        if method and not key.startswith("_") and not member.has_docstring and not any(same and same.has_docstring for same in above):
            yield f"{name}.{key}"


if __name__ == "__main__":
    print(*faults(), sep="\n")
    sys.exit(bool(faults()))

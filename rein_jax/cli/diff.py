"""`rein diff`: what differs between two runs or models: their configs and their results."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_pipelines.files import shown
from rein_jax.cli import path_argument
from rein_jax.configuration.renamed import current
from rein_jax.errors import UserError, read_json

DESCRIPTION = """Compares two runs (folders) or model files: config keys that differ, then their numbers side by side."""
EPILOG = """examples:
  rein diff runs/rein runs/frozen
  rein diff runs/rein/model.safetensors published.safetensors"""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parse = argparse.ArgumentParser(
        "rein diff", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parse.add_argument("a", type=path_argument, metavar="A")
    parse.add_argument("b", type=path_argument, metavar="B")
    parse.add_argument("--json", action="store_true", help="print JSON")
    return parse


def main(argv: list[str]) -> int:
    """Exit code of the command."""
    options = parser().parse_args(argv)
    found = compare(*(read_run(path) for path in (options.a, options.b)))
    print(json.dumps(found, indent=2, sort_keys=True, default=str) if options.json else text(found, str(options.a), str(options.b)))
    return 0


def read_run(path: Path) -> dict[str, Any]:
    """{"config", "numbers", "facts"} of a run folder or a model file."""
    from rein_jax.cli.show import foreign, numbers
    from rein_jax.weights.modelfile import read_meta

    if path.is_dir():
        config, results = _json(path / "config.json"), _json(path / "results.json", missing={})
        meta = {**results, "step": results.get("steps")}
        config = config.get("config", config) if isinstance(config.get("config"), Mapping) else config
    else:
        meta = read_meta(path)
        config = meta.get("config") or {}
    with foreign(path):
        weights = meta.get("weights") or {}
        facts = {"steps": meta.get("step"), "backbone hash": weights.get("sha256") or meta.get("frozen"),
                 "classes": ", ".join(meta.get("classes") or ()), "data fingerprint": meta.get("fingerprint")}
        return {"config": flat(current(config)), "numbers": numbers(meta), "facts": {key: value for key, value in facts.items() if value}}


def flat(section: Any, prefix: str = "") -> dict[str, Any]:
    """A nested config as {"optim.lr": 1e-4, ...}; lists of sections get numbers."""
    if isinstance(section, Mapping):
        items = section.items()
    elif isinstance(section, list | tuple) and any(isinstance(value, Mapping) for value in section):
        items = enumerate(section)
    else:
        return {prefix: list(section) if isinstance(section, tuple) else section}
    out: dict[str, Any] = {}
    for key, value in items:
        out.update(flat(value, f"{prefix}.{key}" if prefix else str(key)))
    return out


_ABSENT = "-"


def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, dict[str, tuple[Any, Any]]]:
    """{"config" | "facts": {key: (a's, b's)} where they differ, "numbers": all of them}."""
    out: dict[str, dict[str, tuple[Any, Any]]] = {}
    for part in ("config", "facts", "numbers"):
        keys = [*a[part], *(key for key in b[part] if key not in a[part])]
        pairs = {key: (a[part].get(key, _ABSENT), b[part].get(key, _ABSENT)) for key in keys}
        out[part] = {key: pair for key, pair in pairs.items() if part == "numbers" or pair[0] != pair[1]}
    return out


def text(found: Mapping[str, Mapping[str, tuple[Any, Any]]], a: str, b: str) -> str:
    """The comparison for the terminal."""
    lines = [f"A: {a}", f"B: {b}", ""]
    differing = {**found["config"], **found["facts"]}
    width = max([len(key) for part in found.values() for key in part] or [0]) + 2
    lines += [f"{key:<{width}} {left}  ->  {right}" for key, (left, right) in differing.items()] or ["The configs are the same."]
    if found["numbers"]:
        lines += ["", f"{'':<{width}} {'A':>8} {'B':>8} {'B - A':>8}"]
    for key, (left, right) in found["numbers"].items():
        both = isinstance(left, float) and isinstance(right, float)
        texts = [f"{value:.2f}" if isinstance(value, float) else value for value in (left, right)]
        lines.append(f"{key:<{width}} {texts[0]:>8} {texts[1]:>8} {f'{right - left:+.2f}' if both else '':>8}")
    return "\n".join(shown(line) for line in lines)


def _json(path: Path, missing: Any = None) -> dict[str, Any]:
    """A JSON file of a run folder."""
    try:
        return read_json(path, "restore it, or compare another run")
    except FileNotFoundError:
        if missing is not None:
            return missing
        raise UserError(f"{path} does not exist; give the folder of a run or a model file.") from None

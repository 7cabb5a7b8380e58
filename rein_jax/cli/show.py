"""`rein show`: what a model file, a run folder or any checkpoint holds."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_pipelines.files import shown
from rein_jax.cli import path_argument
from rein_jax.errors import UserError, read_json
from rein_jax.kinds import is_number

DESCRIPTION = """Describes a file: for a model of this package method, backbone and its hash, classes, protocol, training data,
numbers and licence notes; for any other checkpoint what it looks like and its arrays."""
EPILOG = """examples:
  rein show runs/quickstart/model.safetensors
  rein show runs/quickstart --json
  rein show dinov2_vits14_pretrain.pth --names"""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parse = argparse.ArgumentParser(
        "rein show", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parse.add_argument("path", type=path_argument, metavar="FILE")
    parse.add_argument("--names", action="store_true", help="list every array with shape and dtype")
    parse.add_argument("--json", action="store_true", help="all metadata as JSON")
    return parse


def main(argv: list[str]) -> int:
    """Exit code of the command."""
    from rein_jax.weights.checkpoint import read_checkpoint
    from rein_jax.weights.modelfile import is_model, read_meta

    options = parser().parse_args(argv)
    path = model_path(options.path)
    checkpoint = read_checkpoint(path)
    model = is_model(checkpoint)
    meta = {**read_meta(path, checkpoint), **_beside(options.path)} if model else dict(checkpoint.metadata)
    if options.json:
        print(json.dumps(meta, indent=2, sort_keys=True))
    else:
        with foreign(path):
            print(describe(path, checkpoint, meta) if model else describe_other(path, checkpoint))
    if options.names:
        print("\n".join(shown(f"{name}  {entry.shape}  {entry.dtype}") for name, entry in sorted(checkpoint.entries.items())))
    return 0


@contextmanager
def foreign(path: Path):
    """Around what reads nested metadata: those of another program may have any form, which is then a UserError."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: its metadata does not have the form that rein writes ({error}); --json shows them as they are.") from None


def model_path(path: Path) -> Path:
    """The file itself, or the model in a run folder, or the index of a folder of shards."""
    from rein_jax.weights.sharded import open_folder

    if not path.is_dir():
        return path
    for name in ("model.safetensors", "best.safetensors"):
        if (path / name).is_file():
            return path / name
    if any(path.glob("*.index.json")):
        return open_folder(path)
    raise UserError(f"{path} holds no model.safetensors; give a model file, a checkpoint or the folder of a finished run.")


def _beside(path: Path) -> dict[str, Any]:
    """Evaluation results of a run folder."""
    results = path / "results.json" if path.is_dir() else None
    if results is None or not results.is_file():
        return {}
    found = read_json(results, "remove it or run `rein evaluate` again")
    return {"evaluation": found.get("evaluation") or {}, "step": found.get("steps")}


def describe(path: Path, checkpoint, meta: Mapping[str, Any]) -> str:
    """The lines about a model file."""
    import numpy as np

    config, weights = meta.get("config") or {}, meta.get("weights") or {}
    count = sum(int(np.prod(shape)) for shape in checkpoint.shapes().values())
    frozen = meta.get("frozen") or (f"sha256:{weights['sha256']}" if weights.get("sha256") else "not recorded")
    whole = any(name.startswith("backbone/") for name in checkpoint)
    rows = [
        ("file", f"{path} ({path.stat().st_size / 1e6:.1f} MB)"),
        ("holds", f"{len(checkpoint)} arrays, {count:,} parameters" + (", the backbone among them" if whole else ", without the backbone")),
        ("name", config.get("name", "")),
        ("method", _method(config)),
        ("head", _get(config, "head", "name")),
        ("backbone", f"{weights.get('name') or _get(config, 'backbone', 'name')}, from {weights.get('source') or 'not recorded'}"),
        ("backbone hash", frozen),
        ("classes", f"{len(meta.get('classes') or ())}: {', '.join(meta.get('classes') or ())}"),
        ("protocol", " ".join(f"{key} {_get(config, 'eval', key)}" for key in ("protocol", "mode", "crop", "stride"))),
        ("trained on", _training(meta, config)),
        ("steps", meta.get("step", "not recorded")),
        ("numbers", "; ".join(f"{name} {value:.2f}" for name, value in numbers(meta).items()) or "none recorded"),
        ("licence", meta.get("licence", "")),
        ("written by", f"rein_jax {meta.get('version', '')}".strip()),
    ]
    if meta.get("imported_from"):
        rows.append(("imported from", f"{meta['imported_from'].get('file')} (SHA-256 {meta['imported_from'].get('sha256')})"))
    return "\n".join(shown(f"{title:<14} {text}") for title, text in rows if str(text).strip())


def numbers(meta: Mapping[str, Any]) -> dict[str, float]:
    """{"night mIoU": ..., "mean mIoU": ...} of the evaluation that the metadata holds."""
    found = meta.get("evaluation") or {}
    domains = {**(found.get("domains") or {}), "mean": found.get("mean") or {}}
    out = {f"{name} {key}": float(part[key]) for name, part in domains.items() for key in ("mIoU", "mAcc", "aAcc")
           if isinstance(part, Mapping) and is_number(part.get(key))}
    return out or ({"mIoU": float(meta["mIoU"])} if is_number(meta.get("mIoU")) else {})


def describe_other(path: Path, checkpoint) -> str:
    """The lines about a checkpoint that is not a model of this package."""
    from rein_jax.weights.identify import identify

    found = identify(checkpoint.shapes())
    dtypes = sorted({entry.dtype.name for entry in checkpoint.entries.values()})
    size = sum(file.stat().st_size for file in checkpoint.files or (path,))
    rows = [("file", f"{path} ({size / 1e6:.1f} MB)"), ("kind", checkpoint.kind),
            ("looks like", found.text if found else "none of the models known here"),
            ("opened at", checkpoint.wrapper), ("not opened", ", ".join(checkpoint.beside)),
            ("holds", f"{len(checkpoint)} arrays of {', '.join(dtypes)}"),
            *checkpoint.metadata.items()]
    return "\n".join(shown(f"{title:<14} {text}") for title, text in rows if text and title != "sha256")


def _get(config: Mapping[str, Any], *keys: str) -> Any:
    """A nested entry, or ""."""
    value: Any = config
    for key in keys:
        value = value.get(key, "") if isinstance(value, Mapping) else ""
    return value


def _method(config: Mapping[str, Any]) -> str:
    adapter = _get(config, "adapter", "name")
    trained = ", ".join(_get(config, "trainable") or ())
    return f"{adapter if adapter not in ('', 'none') else 'no adapter'}; trained: {trained}" if config else ""


def _training(meta: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The training sets; of an imported checkpoint they are not known."""
    if meta.get("imported_from"):
        return "not recorded in the imported checkpoint"
    return ", ".join(_source(entry) for entry in _get(config, "data", "train") or ()) or "not recorded"


def _source(entry: Mapping[str, Any]) -> str:
    return f"{entry.get('name')} ({entry.get('split')})" if entry.get("split") else str(entry.get("name"))

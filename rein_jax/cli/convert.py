"""`rein convert`: checkpoints between file formats, and between the official Rein code and this one, without torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_pipelines.files import shown
from rein_jax.cli import path_argument

DESCRIPTION = """Copies the arrays of a checkpoint (.safetensors, .npz, .pth/.pt, .onnx) to .safetensors or .pth, bit for bit; names stay.
A model trained here becomes a checkpoint of the official Rein (or SoMA) code when it is written as .pth; an official checkpoint becomes a
model of this package with --config, and so does a published EoMT model. Neither needs torch, and no code inside a file is ever run."""
EPILOG = """examples:
  rein convert dinov2_vitl14_pretrain.pth dinov2_vitl14.safetensors
  rein convert dinov2_vitl14.safetensors back.pth
  rein convert training.pth student.safetensors --part model.student          # one of several sets of weights
  rein convert runs/gta/model.safetensors iter_40000.pth                     # for the official code
  rein convert iter_40000_published.pth model.safetensors --config configs/gta_to_cbm.py:backbone=dinov2_l
  rein convert soma.pth model.safetensors --config configs/gta_to_cbm.py:method=soma --config.adapter.order=released
  rein convert eomt.safetensors model.safetensors --config configs/citys_to_acdc.py:backbone=dinov2_vitl14_reg,method=full,head=eomt"""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parse = argparse.ArgumentParser(
        "rein convert", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parse.add_argument("source", type=path_argument, metavar="SRC")
    parse.add_argument("target", type=path_argument, metavar="DST")
    parse.add_argument("--to", choices=("safetensors", "torch"), help="format of DST (default: by its ending)")
    parse.add_argument("--config", metavar="FILE[:ARG]",
                       help="SRC is an official Rein or SoMA checkpoint, or an EoMT model, of this config; DST becomes a model file")
    parse.add_argument("--part", default="", metavar="NAME",
                       help="only the arrays under this dotted name, such as student or model.teacher; the prefix is removed")
    parse.add_argument("--force", action="store_true", help="overwrite DST")
    parse.add_argument("--names", action="store_true", help="list every array")
    return parse


def main(argv: list[str]) -> int:
    """Exit code of the command."""
    options, overrides = _options(argv)
    from rein_jax.weights.checkpoint import read_checkpoint
    from rein_jax.weights.convert import convert, format_of, writable
    from rein_jax.weights.identify import identify
    from rein_jax.weights.modelfile import is_model

    if options.config:
        writable(options.source, options.target, options.force)
        summary = import_model(read_checkpoint(options.source, options.part), options.target, options.config, overrides)
        print(summary.details() if options.names else summary)
        print(f"wrote {options.target}, a model for rein evaluate, predict and export")
        return 0
    source = read_checkpoint(options.source, options.part)
    if is_model(source) and not options.part and format_of(options.target, options.to) == "torch":
        writable(options.source, options.target, options.force)
        print(f"wrote {options.target}: {export_model(options.source, options.target)} arrays under the official names")
        return 0
    source = convert(options.source, options.target, options.to, force=options.force, part=options.part)
    found = identify(source.shapes())
    print(f"wrote {options.target}: {len(source)} arrays, {source.nbytes() / 1e6:.1f} MB, of a {source.kind}"
          + (f" that looks like {found.text}" if found else "")
          + (f"; of several sets of weights those under {source.wrapper!r}, not {', '.join(source.beside)}" if source.beside else ""))
    if options.names:
        print("\n".join(shown(f"{name}  {entry.shape}  {entry.dtype}") for name, entry in source.entries.items()))
    return 0


def _options(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    from rein_jax import configuration

    overrides, rest = configuration.split_overrides(argv)
    return parser().parse_args(rest), overrides


def import_model(source, target: Path, config_name: str, overrides: list[str]):
    """An official Rein or SoMA checkpoint, or with head=eomt a published EoMT model, as a model file of the given config; returns the
    loader's summary. source: the opened Checkpoint."""
    from data_pipelines.labels import CITYSCAPES
    from rein_jax import __version__, build, configuration
    from rein_jax.backbones.vit import grid_of
    from rein_jax.configuration.options import plain
    from rein_jax.interop.eomt import import_eomt
    from rein_jax.interop.rein import import_official
    from rein_jax.interop.soma import import_soma
    from rein_jax.segmenter import Preprocessing
    from rein_jax.weights.fetch import file_hash
    from rein_jax.weights.modelfile import write_model

    config = configuration.load(config_name, overrides)
    _, trainable, frozen = build.abstract_params(config, CITYSCAPES)
    if config.head.name == "eomt":
        grid = grid_of(plain(config.backbone.image_size), config.backbone.options.get("patch", 16))
        values, summary = import_eomt(source, {**trainable, **frozen}, config.backbone.name, grid)
    elif config.adapter.name == "soma":
        values, summary = import_soma(source, trainable, order=config.adapter.get("order", "paper"))
    else:
        values, summary = import_official(source, shapes=trainable)
    pixels = Preprocessing()
    weights = {"name": config.backbone.name, **({"source": "random"} if config.backbone.weights == "random" else {})}
    write_model(target, values, {
        "config": config.to_dict(), "classes": list(CITYSCAPES.names), "palette": [list(map(int, c)) for c in CITYSCAPES.palette],
        "preprocessing": {"mean": list(pixels.mean), "std": list(pixels.std)}, "weights": weights,
        "version": __version__, "imported_from": {"file": source.path.name, "sha256": file_hash(*summary.files)},
    })  # fmt: skip
    return summary


def export_model(source: Path, target: Path) -> int:
    """A model file as a checkpoint of the official Rein code, or of SoMA's; returns the number of arrays."""
    from rein_jax.interop.rein import export_official
    from rein_jax.weights.modelfile import read_model

    arrays, meta = read_model(source)
    if (meta.get("config", {}).get("adapter") or {}).get("name") == "soma":
        return _export_soma(source, target)
    backbone = str((meta.get("weights") or {}).get("name", ""))
    whole = any(name.startswith("backbone/blocks") for name in arrays)
    return len(export_official(arrays, target, backbone=backbone if whole else ""))


def _export_soma(source: Path, target: Path) -> int:
    from rein_jax import build, trees
    from rein_jax.interop.soma import export_soma

    module_def, leaves, _ = build.load_parts(source)
    adapter = trees.merge(module_def, leaves).adapters[0]
    return len(export_soma(leaves, target, start=adapter.active[0] if adapter.active else 0, factor=adapter.factor))

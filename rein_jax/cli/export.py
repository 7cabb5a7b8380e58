"""`rein export`: a trained model as a StableHLO or ONNX program, run and compared before success is printed."""

from __future__ import annotations

import argparse
from pathlib import Path

from rein_jax.cli import path_argument
from rein_jax.errors import UserError

DESCRIPTION = """Writes a trained model as one self-contained program (weights, normalisation and what --slide, --resize and --output put
inside) with any batch size, runs it, compares it with JAX, and prints size and speed. FILE.json beside it holds the classes."""
EPILOG = """examples:
  rein export runs/camvid --to stablehlo --size 512x1024 --out camvid
  rein export runs/camvid --to onnx --size 512 --output scores --out camvid.onnx
  rein export runs/citys --to stablehlo --size 1024x2048 --slide 512 --stride 341 --out citys
  rein export runs/lora --to onnx --size 720x1280 --resize 512x896 --merge --out lora

In Python: call = rein_jax.export.stablehlo.read("camvid.stablehlo"); labels = call(images)   # uint8 [B, H, W, 3], RGB"""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parse = argparse.ArgumentParser("rein export", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("model", type=path_argument, metavar="MODEL", help="run folder or model.safetensors")
    parse.add_argument("--to", choices=("stablehlo", "onnx"), required=True)
    parse.add_argument("--size", nargs="+", required=True, metavar="HxW", help="size of the input images; several sizes: one file each")
    parse.add_argument("--output", choices=("labels", "probabilities", "scores"), default="labels", help="default labels (argmax inside)")
    parse.add_argument("--resize", metavar="HxW", help="resize inside: the model sees this size, the result has the input's")
    parse.add_argument("--slide", metavar="HxW", help="sliding windows of this size inside")
    parse.add_argument("--stride", metavar="HxW", help="step between windows (default two thirds)")
    merging = parse.add_mutually_exclusive_group()
    merging.add_argument("--merge", action="store_true", default=None, help="fold the adapters into the backbone (default: where exact)")
    merging.add_argument("--no-merge", dest="merge", action="store_false", help="leave the adapters as they are")
    parse.add_argument("--out", type=path_argument, default=Path("model"), metavar="FILE", help="default model.stablehlo or model.onnx")
    return parse


def main(argv: list[str]) -> int:
    """Exit code of the command."""
    given = parser().parse_args(argv)
    from rein_jax.export import Plan, export_model
    from rein_jax.export.run import TARGETS

    window = size_of(given.slide)
    stride = size_of(given.stride) or (tuple(2 * side // 3 for side in window) if window else None)
    for text in given.size:
        plan = Plan(size_of(text), given.output, size_of(given.resize), window, stride)
        suffix = TARGETS[given.to]
        out = given.out if given.out.suffix == suffix else given.out.with_name(given.out.name + suffix)
        if len(given.size) > 1:
            out = out.with_name(f"{out.stem}-{plan.size[0]}x{plan.size[1]}{suffix}")
        print(report(export_model(given.model, given.to, plan, out, merge=given.merge)))
    return 0


def size_of(text: str | None) -> tuple[int, int] | None:
    """"512" or "512x1024" -> (height, width)."""
    if text is None:
        return None
    height, _, width = text.partition("x")
    if not (height.isdigit() and (width or height).isdigit()):
        raise UserError(f"{text!r} is not a size; write HEIGHTxWIDTH such as 512x1024, or one number for a square.")
    return int(height), int(width or height)


def report(facts: dict) -> str:
    """What was exported and how it was checked, for people."""
    deviations = ", ".join(f"{value:.1e} at batch {batch}" for batch, value in facts["largest_deviation"].items())
    speeds = ", ".join(f"{value:g} images per second, batch {batch}" for batch, value in facts["images_per_second"].items())
    return "\n".join([
        f"{facts['file']} ({facts['bytes'] / 1e6:.1f} MB, {facts['seconds_to_export']} s to export)",
        f"  input     {facts['input']}",
        f"  output    {facts['output']}",
        f"  inside    {', '.join(facts['inside'])}; adapters {facts['adapters']}",
        f"  checked   largest deviation {deviations}; {facts['compared_with']}",
        f"  speed     {speeds}",
    ])

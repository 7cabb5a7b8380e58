"""`rein predict`: label images, folders, globs and videos with a trained model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rein_jax.cli import above, at_least, path_argument
from rein_jax.errors import UserError

DESCRIPTION = """Predicts every pixel's class in pictures, folders (searched recursively), quoted globs and videos, at the size of each
file. Writes DIR/labels/NAME.png and DIR/overlay/NAME.png (and what else --save names); videos give a video of each map."""
EPILOG = """examples:
  rein predict runs/quickstart street.jpg
  rein predict runs/camvid camvid/test 'more/**/*.png' --out out --save labels overlay confidence entropy
  rein predict runs/camvid dusk.mp4 --out out --frames
  rein predict runs/citys images --ids labels --save labels probabilities
  rein predict runs/quickstart --watch incoming --out out

Exit code: 0 all done, 1 some files failed (listed with the reason), 2 nothing could be done."""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parse = argparse.ArgumentParser("rein predict", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("model", type=path_argument, metavar="MODEL", help="run folder or model.safetensors")
    parse.add_argument("paths", type=path_argument, nargs="*", metavar="PATH", help="picture, folder, quoted glob or video")
    parse.add_argument("--out", type=path_argument, default=Path("predictions"), metavar="DIR",
                       help="folder for the results (default predictions)")
    parse.add_argument("--save", nargs="+", default=["labels", "overlay"], metavar="KIND",
                       help="labels, overlay, confidence, entropy, probabilities (default: labels overlay)")
    parse.add_argument("--ids", default="train", help="values in label PNGs: train (default), labels (Cityscapes) or K numbers: 7,8,11,...")
    parse.add_argument("--palette", type=path_argument, metavar="FILE", help="class list with colours: one `name red green blue` per line")
    parse.add_argument("--opacity", type=float, default=0.6, help="of the colours in overlays (default 0.6)")
    parse.add_argument("--frames", action="store_true", help="label PNGs (and probabilities) of every video frame too")
    parse.add_argument("--watch", type=path_argument, metavar="DIR", help="keep predicting files as they appear in DIR (Ctrl-C ends it)")
    parse.add_argument("--idle-exit", type=above(0), metavar="S", help="end --watch after S seconds without a new file")
    parse.add_argument("--protocol", help="resolution: official-512, official-1024, full or fit-WxH (default: the run's, else full)")
    parse.add_argument("--mode", choices=("slide", "whole"), help="sliding window or whole image (default: the run's)")
    parse.add_argument("--crop", type=at_least(1), metavar="PX", help="side of a window (default: the run's)")
    parse.add_argument("--stride", type=at_least(1), metavar="PX", help="step between windows (default: the run's, else two thirds)")
    parse.add_argument("--batch", type=at_least(1), metavar="N", help="windows per device in one call (default: the run's, else 4)")
    parse.add_argument("--scales", type=above(0), nargs="+", default=[1.0], metavar="S", help="average the probabilities of these scales")
    parse.add_argument("--flip", action="store_true", help="average with the mirrored image")
    parse.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="default auto: fp32 on CPU, else bf16")
    parse.add_argument("--max-megapixels", type=above(0), default=64.0, metavar="N", help="larger pictures are refused (default 64)")
    parse.add_argument("--quiet", action="store_true", help="no progress bar")
    return parse


def main(argv: list[str]) -> int:
    """Exit code 0 if every file was predicted, 1 if some failed."""
    given = parser().parse_args(argv)
    if not given.paths and given.watch is None:
        raise UserError("Name at least one picture, folder, glob or video after the model, or a folder to --watch.")
    from rein_jax.predict import run as predict

    options = {"saves": given.save, "ids": given.ids, "palette": given.palette, "opacity": given.opacity, "protocol": given.protocol,
               "mode": given.mode, "crop": given.crop, "stride": given.stride, "batch": given.batch, "scales": given.scales,
               "flip": given.flip, "precision": given.precision, "megapixels": given.max_megapixels, "frames": given.frames}
    items = predict.inputs.find([str(path) for path in given.paths], given.out)
    job = predict.prepare(given.model, given.out, **options)
    summary = predict.Summary(given.out)
    try:
        predict.run(job, items, summary, bar=not given.quiet and given.watch is None)
        if given.watch is not None:
            _watch(predict, job, given, summary)
    finally:  # whatever ends it, what was done and what failed is said
        print("\n".join(summary.lines()), flush=True)
    return 1 if summary.failed else 0


def _watch(predict, job, given: argparse.Namespace, summary) -> None:
    """What comes, until Ctrl-C."""
    print(f"watching {given.watch}; Ctrl-C ends it", file=sys.stderr)
    try:
        predict.watch(job, given.watch, summary, idle=given.idle_exit, note=lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)

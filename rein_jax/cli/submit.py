"""`rein submit`: the zip that a benchmark server asks for, from predicted PNG files, checked before and after writing."""

from __future__ import annotations

import argparse

from rein_jax.cli import path_argument
from rein_jax.predict import submission

EPILOG = """examples:
  rein predict runs/citys '/data/acdc/rgb_anon/*/test/**/*.png' --out out/acdc        (or rein evaluate --save-predictions)
  rein submit acdc out/acdc --source /data/acdc --out acdc.zip
  rein submit cityscapes out/cityscapes --out cityscapes.zip

PREDICTIONS holds one PNG of train ids for each test image, in any folders below it, named after the image; where it has a
folder `labels`, as `rein predict` writes, only what lies in there is taken.
With --source the images of the data set's test split are asked for by name; without it their published number."""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    servers = submission.__doc__.split("\n", 2)[2]
    parse = argparse.ArgumentParser(prog="rein submit", description=f"{__doc__}\n\n{servers}", epilog=EPILOG, allow_abbrev=False,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("server", choices=sorted(submission.SERVERS))
    parse.add_argument("predictions", metavar="PREDICTIONS", type=path_argument)
    parse.add_argument("--out", metavar="ZIP", type=path_argument, required=True)
    parse.add_argument("--source", type=path_argument, metavar="DIR", help="the data set; its images are asked for by name and size")
    parse.add_argument("--split", default="test", help="split of --source (default test)")
    return parse


def main(argv: list[str] | None = None) -> int:
    """Writes the zip and prints what is in it."""
    given = parser().parse_args(argv)
    images, size = test_images(given.server, given.source, given.split) if given.source else (None, None)
    made = submission.submission(given.server, given.predictions, given.out, images, size)
    count = submission.verify(given.server, given.out, size)
    print(f"{made['zip']}: {count} files of {made['values']}, {made['bytes'] / 1e6:.1f} MB, read back and verified")
    return 0


def test_images(server: str, source: str, split: str) -> tuple[list[str], tuple[int, int]]:
    """(names of all images of the split, (width, height) of the first)."""
    from data_pipelines import open_source

    opened = open_source(server, split=split, source=source)
    height, width = opened[0]["image"].shape[:2]
    return [opened.entry_name(i) for i in range(len(opened))], (width, height)

"""`rein prepare`: pack a data set into TFDS ArrayRecord files, byte for byte, with checksums; run it again to go on."""

from __future__ import annotations

import argparse
import os

from rein_jax.cli import at_least, path_argument
from rein_jax.cli.data import add_source_arguments, options_of
from rein_jax.errors import UserError

EPILOG = """examples:
  rein prepare gtav --source /data/gta --out /data/records/gtav --jobs 8
  rein train --config configs/rein_dinov2_gta.py --config.data.root=/data --config.data.train.0.source=/data/records/gtav \\
    --workdir runs/a
  rein prepare gtav --out /data/records/gtav --verify          # compare every file with its checksum

  rein prepare mapillary --source /data/mapillary --out /data/records/mapillary --beam="--runner=DirectRunner"

A finished part is kept, so an interrupted run continues where it stopped; a finished one takes seconds. --beam writes very large sets
on many machines through Apache Beam instead (pip install apache-beam); it starts over when interrupted."""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parse = argparse.ArgumentParser(
        prog="rein prepare",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_source_arguments(parse)
    parse.add_argument("--out", required=True, type=path_argument, metavar="DIR", help="folder to write, used as source= afterwards")
    parse.add_argument("--part-size", type=at_least(1), default=1024, metavar="MIB", help="size of a part in MiB (default 1024)")
    parse.add_argument("--verify", action="store_true", help="write nothing; compare every file with its checksum")
    parse.add_argument("--beam", metavar="FLAGS", help="write through Apache Beam with these flags of its own")
    return parse


def main(argv: list[str]) -> int:
    """Runs `rein prepare ...`; 0 done, 2 something to correct."""
    arguments = parser().parse_args(argv)
    if arguments.part_size < 1:
        raise UserError(f"--part-size {arguments.part_size} must be at least 1 MiB.")
    if arguments.verify:
        from data_pipelines.records import verify

        verify(arguments.out)
        print(f"{arguments.out}: every file has its checksum.")
        return 0
    from data_pipelines.prepare import prepare, prepare_with_beam

    what = (arguments.name, arguments.source, arguments.out)
    options = {"splits": tuple(arguments.split), **options_of(arguments.option)}
    if arguments.beam is not None:
        manifest = prepare_with_beam(*what, arguments.beam, **options)
    else:
        jobs = arguments.jobs or os.cpu_count() or 1
        manifest = prepare(*what, jobs=jobs, part_bytes=arguments.part_size << 20, **options)
    counts = ", ".join(f"{split} {kept['elements']}" for split, kept in manifest["splits"].items())
    print(f"{arguments.out} holds {counts}; use it as the source of data set {arguments.name!r}.")
    return 0

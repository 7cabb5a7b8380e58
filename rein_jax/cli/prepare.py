"""`rein prepare`: pack a data set into TFDS ArrayRecord files, byte for byte, with checksums; run it again to go on."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rein_jax.cli.data import add_source_arguments, options_of
from rein_jax.errors import UserError

EPILOG = """examples:
  rein prepare gtav --source /data/gta --out /data/records/gtav --jobs 8
  rein train --config configs/rein_gta.py --workdir runs/a     # with source /data/records/gtav: recognised as prepared
  rein prepare gtav --out /data/records/gtav --verify          # compare every file with its checksum

A finished part is kept, so an interrupted run goes on where it was; a finished one takes seconds. For very large sets on many
machines see the top of data_pipelines/builders.py (TFDS with Beam), then run this command with --adopt."""


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
    parse.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write, used as source= afterwards")
    parse.add_argument("--part-size", type=int, default=1024, metavar="MIB", help="size of a part in MiB (default 1024)")
    parse.add_argument("--verify", action="store_true", help="write nothing; compare every file with its checksum")
    parse.add_argument(
        "--adopt", action="store_true", help="write nothing but the manifest of what `tfds build` wrote into --out"
    )
    return parse


def main(argv: list[str]) -> int:
    """Runs `rein prepare ...`; 0 done, 2 something to mend."""
    arguments = parser().parse_args(argv)
    if arguments.part_size < 1:
        raise UserError(f"--part-size {arguments.part_size} must be at least 1 MiB.")
    if arguments.verify:
        from data_pipelines.records import verify

        verify(arguments.out)
        print(f"{arguments.out}: every file has its checksum.")
        return 0
    from data_pipelines.prepare import adopt, prepare

    manifest = (adopt if arguments.adopt else prepare)(
        arguments.name,
        arguments.source,
        arguments.out,
        splits=tuple(arguments.split),
        jobs=arguments.jobs or os.cpu_count() or 1,
        part_bytes=arguments.part_size << 20,
        **options_of(arguments.option),
    )
    counts = ", ".join(f"{split} {kept['elements']}" for split, kept in manifest["splits"].items())
    print(f"{arguments.out} holds {counts}; use it as the source of data set {arguments.name!r}.")
    return 0

"""`rein tables`: the paper's tables filled from finished runs, ours beside published."""

from __future__ import annotations

import argparse
import sys

from rein_jax.cli import path_argument

DESCRIPTION = """Fill the tables of Rein (CVPR 2024) from finished runs: ours beside published, "not run" where there is none, mean and
standard deviation over seeds, how each was trained and measured in the caption. A run belongs to the row with its backbone, method,
head, augmentation and training data. Runs that belong to no row get a table of their own: one line per experiment, one column per domain,
and the mean over the domains it was not trained on. A run that was not measured when it ended counts with what `rein evaluate` wrote
into it (RUN/eval/*); other evaluations are named like runs."""
EPILOG = """examples:  rein tables runs/*        rein tables runs/ --format md        rein tables --table 5 --format latex runs/a runs/b"""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parse = argparse.ArgumentParser("rein tables", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    parse.add_argument("runs", nargs="*", type=path_argument, metavar="RUN",
                       help="folders of runs, or folders that hold runs; none = published numbers only")
    parse.add_argument("--format", default="text", choices=("text", "md", "html", "csv", "latex"), help="default: text for the terminal")
    parse.add_argument("--table", action="append", type=int, choices=range(1, 8), metavar="N",
                       help="this table of the paper, 1 to 7 (may be repeated); default: those that the runs belong to")
    parse.add_argument("--out", type=path_argument, metavar="FILE", help="write to a file instead of the terminal")
    return parse


def main(argv: list[str]) -> int:
    """Exit code of the command."""
    options = parser().parse_args(argv)
    from data_pipelines.atomic import write_atomically
    from rein_jax.experiments import runs, tables

    found, unfinished = runs.find(options.runs)
    for folder in unfinished:
        print(f"{folder}: not finished or not evaluated; left out", file=sys.stderr)
    numbers = options.table or (None if found else list(tables.TABLES))
    text = "\n\n".join(tables.render(sheet, options.format) for sheet in tables.sheets(found, numbers))
    if options.out:
        write_atomically(options.out, f"{text}\n".encode())
    else:
        print(text)
    return 0

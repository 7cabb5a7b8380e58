"""`rein report`: one self-contained report.html for one run, or for several side by side."""

from __future__ import annotations

import argparse

from rein_jax.cli import at_least, path_argument

EPILOG = """examples:
  rein report runs/quickstart
  rein report runs/rein runs/freeze runs/full --out compare.html

A run is a run folder, or a folder that `rein evaluate` wrote; a run that was not measured when it ended is shown with what
`rein evaluate` wrote into it. The first run is the one that others are compared with."""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parse = argparse.ArgumentParser(prog="rein report", description=__doc__, epilog=EPILOG, allow_abbrev=False,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("runs", nargs="+", type=path_argument, metavar="RUN", help="run folder or evaluation folder")
    parse.add_argument("--out", type=path_argument, metavar="FILE", help="where to write (default: report.html in the first run)")
    parse.add_argument("--images", type=at_least(0), default=0, metavar="N", help="images shown at each end of a domain (default: all)")
    parse.add_argument("--table", choices=("text", "markdown", "csv", "latex"), help="print each run's table too")
    return parse


def main(argv: list[str] | None = None) -> int:
    """Writes the file and prints its path."""
    given = parser().parse_args(argv)
    from rein_jax.reporting.report import write_report
    from rein_jax.reporting.results import load_results

    path = write_report(given.runs, given.out, images=given.images)
    if given.table:
        for run in given.runs:
            print(load_results(run, accumulators=False).table(given.table) + "\n")
    print(path)
    return 0

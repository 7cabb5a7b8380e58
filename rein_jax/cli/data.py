"""`rein data`: list the data sets, or check a folder before training on it."""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rein_jax.cli import at_least, path_argument
from rein_jax.errors import UserError

# Options of a data set that the command takes otherwise.
OWN = {"source": "source", "split": "split", "splits": "split", "jobs": "jobs", "sample": "sample", "partial": "partial", "out": "out"}
EPILOG = """examples:
  rein data list
  rein data list cityscapes
  rein data check cityscapes --source /data/cityscapes
  rein data check acdc --source /data/acdc --split val --option condition=night --out runs/check/acdc_night
  rein data check folder --source my_photos --option classes=my_photos/names.txt
  rein data check folder --source my_photos --option values=7+8:road/26:car/0+255:ignore
  rein data check bdd100k --source /data/bdd100k --option policy=skip

exit codes of check: 0 fit to train on, 1 not fit (the reasons are printed), 2 wrong usage."""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parse = argparse.ArgumentParser(
        prog="rein data",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    actions = parse.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("list", help="names of all data sets, or the description of one")
    show.add_argument("name", nargs="?", metavar="NAME")
    check = actions.add_parser(
        "check",
        help="look at every pair: counts, sizes, damage, label values, class histogram, overlays",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_source_arguments(check)
    check.add_argument("--out", type=path_argument, metavar="DIR", help="folder for sheet.png and check.json (default runs/check/NAME)")
    check.add_argument("--json", action="store_true", help="print the report as JSON")
    check.add_argument("--sample", type=at_least(1), metavar="N", help="look at N pairs a split, evenly spaced, instead of all")
    check.add_argument("--partial", action="store_true", help="accept fewer pairs than published")
    return parse


def add_source_arguments(parse: argparse.ArgumentParser) -> None:
    """Arguments that `rein data check` and `rein prepare` share."""
    parse.add_argument("name", metavar="NAME", help="data set; `rein data list` shows them")
    parse.add_argument("--source", type=path_argument, metavar="DIR", help="folder or .zip as downloaded (default $REIN_DATA/NAME)")
    parse.add_argument("--split", action="append", default=[], help="only this split; may be repeated")
    parse.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="option of the data set, e.g. condition=fog"
    )
    parse.add_argument("--jobs", type=at_least(1), metavar="N", help="how many at once")


def options_of(pairs: Iterable[str]) -> dict[str, Any]:
    """KEY=VALUE arguments as Python values: numbers, lists, True, None, else text."""
    options = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UserError(f"--option {pair} is not understood; write KEY=VALUE.")
        if key in OWN:
            raise UserError(f"--option {pair}: {key} has an argument of its own; write --{OWN[key]} {value}.")
        if key in options:
            raise UserError(f"--option {key} is given twice; write it once.")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[key] = value
    return options


def listing(name: str | None) -> str:
    """One line a data set, or the whole description of one: where to get it, licence, layout, splits, options."""
    import data_pipelines

    if name is not None:
        data_pipelines.dataset(name)
        return _description(data_pipelines.DATASETS[name])
    lines = [f"{known:<11} {_description(target).splitlines()[0]}" for known, target in data_pipelines.DATASETS.items()]
    return "\n".join([*lines, "", "rein data list NAME says where to get it, its licence, layout, splits and options."])


def _description(target: Any) -> str:
    what = importlib.import_module(target.partition(":")[0]) if isinstance(target, str) else target  # one that was registered
    return inspect.getdoc(what) or "registered in this process"


def progress(items: Iterable, total: int, title: str) -> Iterable:
    """A progress bar on a terminal, nothing elsewhere."""
    from tqdm import tqdm

    return tqdm(items, total=total, desc=title, disable=not sys.stderr.isatty())


def main(argv: list[str]) -> int:
    """Runs `rein data ...`; see EPILOG for exit codes."""
    arguments = parser().parse_args(argv)
    if arguments.action == "list":
        print(listing(arguments.name))
        return 0
    from data_pipelines.check import check
    from data_pipelines.checkreport import describe, write
    from data_pipelines.files import shown

    report, picture = check(
        arguments.name,
        arguments.source,
        splits=tuple(arguments.split),
        jobs=arguments.jobs,
        sample=arguments.sample,
        partial=arguments.partial,
        watch=progress,
        **options_of(arguments.option),
    )
    paths = write(report, picture, arguments.out or Path("runs/check") / arguments.name)
    print(report.json() if arguments.json else "\n".join(map(shown, describe(report).split("\n"))))
    print("\nwritten: " + ", ".join(shown(str(path)) for path in paths), file=sys.stderr if arguments.json else sys.stdout)
    return 0 if report.fit else 1

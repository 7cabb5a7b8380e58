"""`rein sweep`: a grid of configs, run one after the other or printed as commands, and the table at the end."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rein_jax import configuration
from rein_jax.cli import path_argument

DESCRIPTION = """Run every combination of the grid. A key is an argument of the config file (method, augment, ...) or a key of the config
(seed, train.steps). All configs are resolved and their models built abstractly before anything runs. Finished runs are left alone,
interrupted ones continue, and after a failed run the others still run. At the end comes the table of `rein tables`."""
EPILOG = """examples:
  rein sweep configs/quickstart.py --grid method=rein,freeze,lora --grid seed=0,1 --workdir runs/methods
  rein sweep configs/quickstart.py --grid augment=none,pasta --config.train.steps=200 --commands > jobs.txt
exit codes: 0 all runs finished; 1 some failed, the end says which; 2 something to correct before anything ran;
75 stopped by a signal: run the same command again."""


def parser() -> argparse.ArgumentParser:
    """The command's own options."""
    parse = argparse.ArgumentParser(
        "rein sweep", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parse.add_argument("config", metavar="CONFIG", help="config file, with arguments that all runs share; --config.KEY=VALUE goes to all")
    parse.add_argument("--grid", action="append", default=[], metavar="KEY=V1,V2", help="an axis of the grid; may be repeated")
    parse.add_argument("--workdir", type=path_argument, metavar="DIR", help="folder of the runs' folders (default: runs/NAME_OF_CONFIG)")
    parse.add_argument("--commands", action="store_true", help="print one command per unfinished run, run nothing")
    parse.add_argument("--format", default="text", choices=("text", "md", "html", "csv", "latex"), help="of the table at the end")
    return parse


def main(argv: list[str]) -> int:
    """Exit code of the command."""
    overrides, rest = configuration.split_overrides(argv)
    options = parser().parse_args(rest)
    from rein_jax.experiments import sweep
    from rein_jax.training.guards import PREEMPTED

    workdir = options.workdir or Path("runs") / Path(options.config.partition(":")[0]).stem
    grid = sweep.axes(options.grid, options.config)
    members = sweep.members(options.config, grid, overrides, workdir)
    sweep.check(members)
    if options.commands:
        print("\n".join(sweep.commands(members)))
        return 0
    say = lambda text: print(text, file=sys.stderr, flush=True)
    say(f"{len(members)} runs, {sum(map(sweep.done, members))} of them already finished")
    try:
        failed = sweep.run_all(members, say)
    except KeyboardInterrupt:
        say("stopped; run the same command again to continue")
        return PREEMPTED
    print(table(members, options.format), flush=True)
    for member, why in failed:
        say(f"failed: {member.name} ({why})")
    return 1 if failed else 0


def table(members, style: str) -> str:
    """The table of the members that have numbers."""
    from rein_jax.experiments import runs, tables

    found = [runs.read(member.folder) for member in members if runs.measured(member.folder)]
    return "\n\n".join(tables.render(sheet, style) for sheet in tables.sheets(found)) or "no run has numbers yet"

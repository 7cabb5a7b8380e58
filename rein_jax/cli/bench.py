"""`rein bench NAME`: measure speed and memory; one JSON line, and a file that says what it was measured on."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from data_pipelines.paths import local_path
from rein_jax import registry
from rein_jax.bench import ALIASES, BENCHES
from rein_jax.errors import UserError

USAGE = """usage: rein bench NAME ... [--out FILE]

Runs one benchmark and prints its result as one line of JSON. --out also writes it to a file, with the machine, the versions,
the commit and the command. The benchmarks: {names}; each has its own --help.

examples:
  rein bench infer --config configs/quickstart.py --sizes 512 --batches 1 4
  rein bench step --config configs/quickstart.py --out benchmarks/step.json
  rein bench loader --help"""


def main(argv: list[str]) -> int:
    """Exit code of the command."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE.format(names=", ".join(BENCHES)))
        return 0
    rest, out = split_out(argv[1:])
    result = registry.load(BENCHES, ALIASES.get(argv[0], argv[0]), "benchmark")(rest)
    print(json.dumps(result, default=float))
    if out is not None:
        from data_pipelines.atomic import write_atomically
        from rein_jax.bench.machine import commit, machine, versions
        from rein_jax.reporting.results import now

        facts = {"command": "rein bench " + shlex.join(argv), "time": now(), "commit": commit(), "machine": machine(),
                 "versions": versions()}
        write_atomically(out, (json.dumps({**facts, "result": result}, indent=1, default=float) + "\n").encode())
    return 0


def split_out(argv: list[str]) -> tuple[list[str], Path | None]:
    """The arguments without `--out FILE` (or `--out=FILE`), and the file."""
    rest, out, items = [], None, iter(argv)
    for item in items:
        if item == "--out":
            value = next(items, None)
            if value is None:
                raise UserError("--out needs the name of a file.")
            out = local_path(value)
        elif item.startswith("--out="):
            out = local_path(item.removeprefix("--out="))
        else:
            rest.append(item)
    return rest, out

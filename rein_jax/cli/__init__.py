"""The `rein` command. A new command is one file here and one line below: "module:main", main(argv) -> exit code or None."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from data_pipelines.paths import path_argument

__all__ = ["ALIASES", "COMMANDS", "above", "at_least", "path_argument", "printable"]

COMMANDS = {
    "train": "rein_jax.cli.train:main",
    "evaluate": "rein_jax.cli.evaluate:main",
    "predict": "rein_jax.cli.predict:main",
    "report": "rein_jax.cli.report:main",
    "params": "rein_jax.cli.params:main",
    "weights": "rein_jax.cli.weights:main",
    "convert": "rein_jax.cli.convert:main",
    "data": "rein_jax.cli.data:main",
    "prepare": "rein_jax.cli.prepare:main",
    "bench": "rein_jax.cli.bench:main",
    "tables": "rein_jax.cli.tables:main",
    "sweep": "rein_jax.cli.sweep:main",
    "plan": "rein_jax.cli.plan:main",
    "submit": "rein_jax.cli.submit:main",
    "export": "rein_jax.cli.export:main",
    "serve": "rein_jax.cli.serve:main",
    "show": "rein_jax.cli.show:main",
    "diff": "rein_jax.cli.diff:main",
    "doctor": "rein_jax.cli.doctor:main",
    "completion": "rein_jax.cli.completion:main",
}
ALIASES = {"matrix": "sweep"}  # earlier names


def at_least(least: int) -> Callable[[str], int]:
    """For argparse: a whole number of at least `least`."""
    def read(text: str) -> int:
        if not text.lstrip("+").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least {least}")
        return int(text)

    return read


def above(least: float) -> Callable[[str], float]:
    """For argparse: a finite number above `least`."""
    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not least < number < math.inf:
            raise argparse.ArgumentTypeError(f"{text!r} must be a number above {least:g}")
        return number

    return read


def printable(text: str) -> str:
    """Lines for people in which no name (of a file, a class, a run) can steer the terminal."""
    from data_pipelines.files import shown

    return "\n".join(map(shown, text.split("\n")))

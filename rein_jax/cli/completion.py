"""`rein completion SHELL`: a script that lets the shell complete commands and their options."""

from __future__ import annotations

import argparse
import importlib

import shtab

from rein_jax.bench import BENCHES
from rein_jax.cli import COMMANDS
from rein_jax.cli.main import HELP

EPILOG = """examples:
  source <(rein completion bash)                                       # in ~/.bashrc
  source <(rein completion zsh)                                        # in ~/.zshrc, after compinit
  rein completion fish > ~/.config/fish/completions/rein.fish"""

def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parse = argparse.ArgumentParser("rein completion", description=__doc__, epilog=EPILOG, allow_abbrev=False,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("shell", choices=("bash", "zsh", "fish"))
    return parse


def main(argv: list[str]) -> int:
    """Prints the script."""
    print(script(parser().parse_args(argv).shell), end="")
    return 0


def script(shell: str) -> str:
    """The script for bash, zsh or fish, made by shtab from the commands' own parsers."""
    whole = argparse.ArgumentParser("rein")
    commands = whole.add_subparsers()
    for name, target in COMMANDS.items():
        commands.add_parser(name, help=HELP[name])  # shtab passes over commands without
        if name != "bench":  # which hands on what follows
            commands.choices[name] = importlib.import_module(target.partition(":")[0]).parser()
        commands.choices[name].description = HELP[name]
    commands.choices["bench"].add_argument("name", choices=list(BENCHES))
    commands.choices["bench"].add_argument("--out")
    _complete_files(whole)
    return shtab.complete(whole, shell) + "\n"


def _complete_files(parse: argparse.ArgumentParser) -> None:
    """Whatever takes a value and has no choices completes with files: most such values are runs, configs, images and folders."""
    for action in parse._actions:
        if isinstance(action, argparse._SubParsersAction):
            for part in action.choices.values():
                _complete_files(part)
        elif action.choices is None and action.nargs != 0:
            action.complete = shtab.FILE

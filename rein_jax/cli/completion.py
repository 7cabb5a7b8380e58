"""`rein completion SHELL`: a script that lets the shell complete commands and their options."""

from __future__ import annotations

import argparse
import importlib

from rein_jax.bench import BENCHES
from rein_jax.cli import COMMANDS

EPILOG = """examples:
  source <(rein completion bash)                                       # in ~/.bashrc
  source <(rein completion zsh)                                        # in ~/.zshrc, after compinit
  rein completion fish > ~/.config/fish/completions/rein.fish"""

BASH = """_rein() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} words=
  if [ "$COMP_CWORD" -eq 1 ]; then words="{commands}"; else case ${{COMP_WORDS[1]}} in
{cases}
  esac; fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -o bashdefault -F _rein rein
"""


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


def options() -> dict[str, list[str]]:
    """{command: words that may follow it}, from the commands' own parsers."""
    found = {}
    for name, target in COMMANDS.items():
        module = importlib.import_module(target.partition(":")[0])
        made = getattr(module, "parser", None)
        actions = made()._actions if made else []
        found[name] = [text for action in actions for text in action.option_strings if text.startswith("--")] or ["--help"]
    found["bench"] = [*BENCHES, "--out", "--help"]
    found["completion"] = ["bash", "zsh", "fish"]
    return found


def script(shell: str) -> str:
    """The script for bash, zsh (through its own bash emulation) or fish."""
    words = options()
    if shell == "fish":
        lines = [f"complete -c rein -n __fish_use_subcommand -f -a {name}" for name in words]
        for name, follow in words.items():
            given = f"complete -c rein -n '__fish_seen_subcommand_from {name}'"
            lines += [f"{given} -l {w[2:]}" if w.startswith("--") else f"{given} -a {w}" for w in follow]
        return "\n".join(lines) + "\n"
    cases = "\n".join(f'    {name}) words="{" ".join(follow)}" ;;' for name, follow in words.items())
    made = BASH.format(commands=" ".join(words), cases=cases)
    return f"autoload -U +X bashcompinit && bashcompinit\n{made}" if shell == "zsh" else made

"""A grid of configs: resolved and checked before anything runs, then run one after the other; finished runs are left alone."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rein_jax import configuration
from rein_jax.errors import UserError, read_json
from rein_jax.experiments import runs
from rein_jax.registry import unknown
from rein_jax.training.guards import PREEMPTED
from rein_jax.training.workdir import difference

Axes = dict[str, list[str]]
MODEL = ("backbone", "adapter", "head", "loss", "trainable", "optim", "train")  # sections of which a model and its optimizer are built


@dataclass
class Member:
    """One run of the grid: its config as the command line names it, and its folder."""

    name: str
    config: str
    overrides: tuple[str, ...]
    folder: Path

    def command(self) -> list[str]:
        """The training command, without the interpreter."""
        return ["train", "--config", self.config, *(f"--config.{item}" for item in self.overrides), "--workdir", str(self.folder)]

    def load(self) -> Any:
        return configuration.load(self.config, self.overrides)


def axes(grid: Sequence[str], config: str) -> Axes:
    """{"method": ["rein", "freeze"], ...} of "method=rein,freeze"; keys are arguments of the config file or config keys."""
    out: Axes = {}
    known = configuration.arguments(config)
    for text in grid:
        key, equals, values = text.partition("=")
        if not equals or not values:
            raise UserError(f"--grid {text!r} needs the form KEY=VALUE,VALUE,... such as method=rein,freeze or seed=0,1.")
        if key in out:
            raise UserError(f"--grid {key} is given twice; write all its values after one {key}=.")
        out[key] = split(values)
        if len(set(out[key])) < len(out[key]):
            raise UserError(f"--grid {text!r} names a value twice.")
        top = key.split(".")[0]
        if key not in known and top not in configuration.load(config):
            raise unknown(key, {**known, **configuration.load(config)}, "grid key")
    return out


def split(text: str) -> list[str]:
    """Values between commas; commas inside brackets belong to a value, as in data.crop=(256,256),(512,512)."""
    out, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            out.append("")
        else:
            out[-1] += letter
    return [value.strip() for value in out if value.strip()]


def members(config: str, grid: Axes, overrides: Sequence[str], workdir: Path) -> list[Member]:
    """Every combination of the grid, the last axis changing fastest."""
    known, out = configuration.arguments(config), []
    file, _, given = config.partition(":")
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        arguments = ",".join(filter(None, [given, *(f"{k}={configuration.escaped(v)}" for k, v in chosen.items() if k in known)]))
        extra = tuple(f"{k}={v}" for k, v in chosen.items() if k not in known)
        name = "_".join(safe(f"{k}={v}") for k, v in chosen.items()) or "run"
        out.append(Member(name, f"{file}:{arguments}" if arguments else file, (*overrides, *extra), workdir / name))
    doubles = {m.name for m in out if sum(m.name == other.name for other in out) > 1}
    if doubles:
        raise UserError(f"Two runs of the grid would share the folder {sorted(doubles)[0]}; values must differ in letters or digits.")
    return out


def safe(text: str) -> str:
    """Text as a part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9.=+-]+", "-", text).strip("-")


def check(all_members: Sequence[Member]) -> None:
    """Resolve every config and build its model abstractly; a mistake in any is a UserError that names the run, before anything runs."""
    built: set[str] = set()
    for member in all_members:
        try:
            config = member.load()
            kind = json.dumps([config.to_dict()[key] for key in MODEL], default=list)
            if kind not in built:
                _build(config)
            built.add(kind)
            _check_options(config)
        except UserError as error:
            raise UserError(f"{member.name}: {error}") from None
        _check_folder(member, config)


def _build(config: Any) -> None:
    from rein_jax import build

    build.build_all(config, abstract=True)


def _check_options(config: Any) -> None:
    """Options of an augmentation must exist, and an absent adapter or augmentation has none."""
    from rein_jax import registry
    from rein_jax.augment import AUGMENTS
    from rein_jax.configuration.options import options_of

    for name in ("adapter", "augment"):
        idle = [key for key in config[name] if key != "name"]
        if config[name].name == "none" and idle:
            raise UserError(f"{name}.{idle[0]} is set, but {name}.name is none; leave it out or choose a method that has it.")
    if config.augment.name != "none":
        options_of(config.augment, registry.load(AUGMENTS, config.augment.name, "augmentation"), "config.augment")


def _check_folder(member: Member, config: Any) -> None:
    """A folder that already belongs to another config is refused now, not when its turn comes."""
    path = member.folder / "config.json"
    if path.exists():
        changes = difference(read_json(path, "restore it or choose another --workdir"), json.loads(configuration.to_json(config)))
        if changes:
            raise UserError(f"{member.folder} holds a run with another config; choose another --workdir or undo these changes:\n  "
                            + "\n  ".join(changes))  # fmt: skip


def done(member: Member) -> bool:
    """True for a run that has finished."""
    return (member.folder / "results.json").exists()


def run_all(all_members: Sequence[Member], say: Callable[[str], None] = print) -> list[tuple[Member, str]]:
    """Run what is not finished, one after the other; (run, what went wrong) of those that failed. A stop signal ends the grid."""
    failed: list[tuple[Member, str]] = []
    for number, member in enumerate(all_members, 1):
        where = f"[{number}/{len(all_members)}] {member.name}"
        if done(member):
            say(f"{where}: already finished, left alone")
            continue
        again = "continues" if (member.folder / "checkpoints").exists() else "starts"
        log = member.folder.with_name(member.folder.name + ".log")
        say(f"{where}: {again}; output in {log}")
        start = time.time()
        code = run_one(member, log)
        if code == PREEMPTED:
            raise KeyboardInterrupt
        if code or not done(member):
            failed.append((member, f"exit code {code}: {last_line(log)}"))
            say(f"{where}: FAILED, {failed[-1][1]}")
        else:
            say(f"{where}: done in {time.time() - start:.0f} s{headline(member)}")
    return failed


def run_one(member: Member, log: Path) -> int:
    """Train one member in a process of its own; its output is appended to the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "rein_jax.cli.main", *member.command()]
    with log.open("ab") as file:
        return subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode


def last_line(log: Path) -> str:
    """The last line of a log, for one sentence about what went wrong."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no output"


def headline(member: Member) -> str:
    """", mean mIoU 45.10" where the run was evaluated."""
    if not runs.measured(member.folder):
        return ""
    numbers = [value for name, value in runs.read(member.folder).numbers.items() if "/" not in name]
    return f", mean mIoU {sum(numbers) / len(numbers):.2f}"


def commands(all_members: Sequence[Member]) -> list[str]:
    """One shell line for each run that is not finished, for a scheduler."""
    return [shlex.join(["rein", *member.command()]) for member in all_members if not done(member)]

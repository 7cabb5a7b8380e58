"""A run's folder: it belongs to one config, and a run with another one is refused with the difference."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from data_pipelines.atomic import MARK, write_atomically
from data_pipelines.lock import Taken, locked
from data_pipelines.system_errors import advice, system_error
from rein_jax import distributed
from rein_jax.configuration.renamed import current
from rein_jax.errors import UserError, read_json

# Keys that may differ when a run is resumed: they change where and how it runs, what it writes, not what it computes. Where the data
# lies is free since checkpoints hold a fingerprint of what lies there (see also `_meant`).
FREE = re.compile(r"mesh(\.|$)|sharding(\.|$)|data\.(root|workers|threads|cache)$|eval(\.|$)|"
                  r"train\.(log_every|eval_every|eval_images|eval_at_end|checkpoint_every|keep|skip_limit|spike|compile_budget|"
                  r"transfer_guard|profile|tensorboard)$")
CONFIG, LOCK = "config.json", ".lock"
SAVED = "saved.json"  # the step of the newest checkpoint that was seen on the disk
RESTARTED = "restarted-"  # what --restart put aside
RUN = ("checkpoints", "metrics.jsonl", "model.safetensors", "results.json", SAVED)  # any of them: this folder holds a run
GONE = ("The workdir {} is gone: it was renamed or removed during the run. Run the same command with --workdir at its new location; "
        "it continues from the newest checkpoint there.")
LENGTH = "train.steps"  # what --extend may change


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train.steps": 1000, ...}"""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + str(key)] = value
    return flat


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """"train.steps: 100 -> 200" for every key that matters and differs.

    A key that an older version did not write yet differs only if it is not at its default.
    """
    from rein_jax.configuration import default

    before, after = flatten(current(old)), flatten(current(new))
    plain = lambda value: json.loads(json.dumps(value))
    before = {**{key: after[key] for key, value in flatten(default().to_dict()).items()
                 if key in after and key not in before and plain(after[key]) == plain(value)}, **before}
    keys = sorted(before.keys() | after.keys())
    return [f"{key}: {before.get(key, '(unset)')!r} -> {after.get(key, '(unset)')!r}" for key in keys
            if _meant(key, before.get(key)) != _meant(key, after.get(key)) and not FREE.match(key)
            and not (key == "precision" and "auto" in (before.get(key), after.get(key)))]  # what it came to counts (`check_resume`)


def _meant(key: str, value: Any) -> Any:
    """A value without the place it names: checkpoints hold the hash of the weights and the fingerprint of the data (`check_resume`)."""
    if key == "backbone.weights":
        return value == "random"
    if key == "data.train" and isinstance(value, (list, tuple)):
        return [{name: entry[name] for name in entry if name != "source"} if isinstance(entry, Mapping) else entry for entry in value]
    return value


def open_workdir(workdir: Path, config: Mapping[str, Any], *, restart: bool = False, extend: bool = False) -> None:
    """Create the folder with config.json, or check that it holds a run of the same config.

    A folder that holds another run, or files that are no run at all, is a UserError and stays untouched; so does the config.json of
    a run that has begun, until `renew_config`. restart: what the run has written is moved into the folder's restarted-<n>. extend: the
    config may be one of more steps.
    """
    refusal = _refusal(workdir, config, restart, extend)
    new = not refusal and not _others(workdir)
    distributed.barrier("workdir-checked")  # nobody writes before everybody has looked
    if refusal:
        raise UserError(refusal)
    if restart and not new:
        with alone(workdir):
            if distributed.is_main():
                _move_aside(workdir)
    if new or restart:
        renew_config(workdir, config)
    distributed.barrier("workdir-open")


def renew_config(workdir: Path, config: Mapping[str, Any]) -> None:
    """Write config.json: what may change, such as where the data lies, is the run's once it has been found there."""
    if not distributed.is_main():
        return
    try:
        write_atomically(workdir / CONFIG, json.dumps(config, indent=1, sort_keys=True) + "\n")
    except OSError as error:
        raise _unwritable(workdir, error) from None


def _unwritable(workdir: Path, error: OSError) -> UserError:
    return UserError(f"The workdir {workdir} cannot be written ({error.strerror or error}); choose another --workdir, or "
                     f"{advice(error)}.")


@contextmanager
def alone(workdir: Path) -> Iterator[None]:
    """Nobody else trains in the folder meanwhile, as far as its file system can lock files; the first process holds the lock."""
    if not distributed.is_main():
        yield
        return
    with ExitStack() as held:
        try:
            held.enter_context(locked(workdir / LOCK))
        except Taken:
            raise UserError(f"Another `rein train` is running in {workdir}; wait for it, or choose another --workdir.") from None
        except OSError as error:
            raise _unwritable(workdir, error) from None
        yield


@contextmanager
def in_one_sentence(workdir: Path) -> Iterator[None]:
    """An error of the system that nobody below has explained becomes a UserError that says what to do."""
    try:
        yield
    except BrokenPipeError:  # the reader of the output went away
        raise
    except OSError as error:
        reason = system_error(error)
        if reason is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        raise UserError(f"The run in {workdir} cannot go on: {where}{reason}. What to do: {advice(error)}, and run the same command again; "
                        "it continues from the newest checkpoint.") from error


def is_there(workdir: Path) -> bool:
    """Does the folder hold a run? Yes where a file server does not answer for a moment; writing will tell."""
    for name in (CONFIG, LOCK):
        try:
            (workdir / name).stat()
        except FileNotFoundError:
            continue
        except OSError:
            return True
        return True
    return False


def check_there(workdir: Path) -> None:
    """A UserError where the folder has gone while the run went on: nothing is written to a second folder of its old name."""
    if not distributed.all_agree(is_there(workdir)):
        raise UserError(GONE.format(workdir))


def note_saved(workdir: Path, step: int) -> None:
    """Remember that a checkpoint of this step was on the disk: without any, the run will not begin again unasked."""
    if distributed.is_main() and workdir.is_dir():
        with suppress(OSError):
            write_atomically(workdir / SAVED, json.dumps({"step": step}) + "\n")


def check_untrained(workdir: Path) -> None:
    """A UserError where a run that had trained would begin again at step 0, because its checkpoints are gone."""
    signs = [name for name in (SAVED, "model.safetensors", "results.json", "best.safetensors") if (workdir / name).exists()]
    signs += [f"checkpoints/{path.name}" for path in (workdir / "checkpoints").glob("damaged-*")]
    if not distributed.all_agree(not signs):
        raise UserError(f"The run in {workdir} has trained ({', '.join(signs) or 'another process sees its files'}), but there is no "
                        "checkpoint to continue from in its folder checkpoints. Put that back, or add --restart to the command to begin at "
                        "step 0 (existing files are kept).")


def _others(workdir: Path) -> list[str]:
    """What the folder holds beside a config: nothing, as long as no run has begun in it."""
    def counts(path: Path) -> bool:
        return (path.suffix not in (".log", ".txt") and path.name not in (CONFIG, LOCK) and MARK not in path.name
                and not path.name.startswith(RESTARTED))

    return sorted(path.name for path in workdir.iterdir() if counts(path)) if workdir.exists() else []


def _move_aside(workdir: Path) -> None:
    """All that a run has written, into a folder beside what comes."""
    number = next(n for n in itertools.count(1) if not (workdir / f"{RESTARTED}{n}").exists())
    aside = workdir / f"{RESTARTED}{number}"
    try:
        aside.mkdir()
        for name in [*_others(workdir), CONFIG]:
            if (workdir / name).exists():
                (workdir / name).rename(aside / name)
    except OSError as error:
        raise _unwritable(workdir, error) from None
    print(f"The run that was in {workdir} was moved to {aside}; this one starts from step 0.", flush=True)


def _refusal(workdir: Path, config: Mapping[str, Any], restart: bool, extend: bool) -> str | None:
    """Why this folder cannot be used, or None."""
    if workdir.exists() and not workdir.is_dir():
        return f"The workdir {workdir} is a file; choose another --workdir."
    try:
        others = _others(workdir)
    except OSError as error:
        return f"The workdir {workdir} cannot be read ({error.strerror}): {advice(error)}, or choose another --workdir."
    if extend and not others:
        return f"There is no run in {workdir} that could be extended; leave out --extend."
    if not others:
        return None
    path, run = workdir / CONFIG, any(name in RUN for name in others)
    if not path.exists() and not run:
        return f"The workdir {workdir} holds files that are not a run ({', '.join(others[:3])}); choose an empty or new --workdir."
    if restart or (not path.exists() and "checkpoints" in others):  # the checkpoints say which config they belong to
        return None
    return _other_config(workdir, path, config, extend)


def _other_config(workdir: Path, path: Path, config: Mapping[str, Any], extend: bool) -> str | None:
    """Why a run cannot go on with this config, or None."""
    ways = "restore it, choose another --workdir, or remove it if the folder has checkpoints: they hold the config too"
    try:
        saved = read_json(path, ways)
    except UserError as error:
        return str(error)
    except FileNotFoundError:
        return f"The run in {workdir} has lost its {CONFIG}; restore it or choose another --workdir."
    if not isinstance(saved.get("train"), Mapping):
        return f"{path} is not the config of a run (it has no section 'train'); {ways}."
    changes = difference(saved, config)
    if extend:
        before, after = saved["train"].get("steps"), config["train"].get("steps")
        if isinstance(before, int) and after < before:
            return f"--extend makes a run longer; the one in {workdir} has train.steps={before}, {after} was asked for."
        changes = [change for change in changes if not change.startswith(f"{LENGTH}:")]
    return refuse_changes(f"The workdir {workdir} holds a run with another config", changes, workdir) if changes else None


def refuse_changes(what: str, changes: Sequence[str], workdir: Path | str = "WORKDIR") -> str:
    """The sentence for a run that would go on with another config, and the ways there are."""
    text = f"{what}; choose another --workdir or undo these changes:\n  " + "\n  ".join(changes)
    if any(change.startswith(f"{LENGTH}:") for change in changes):
        text += (f"\nTo train this run longer, add --extend to the command. To begin a new run with what it has learnt, choose another "
                 f"--workdir and --config.init_from={workdir}.")
    return text + "\nTo start from step 0 with the changes, add --restart (existing files are kept)."

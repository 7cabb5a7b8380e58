"""A run's folder: it belongs to one config, and a run with another one is refused with the difference."""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rein_jax import distributed
from rein_jax.errors import UserError, read_json

# Keys that may differ when a run is resumed: they change where and how it runs, what it writes, not what it computes. Where the data
# lies is free since checkpoints hold a fingerprint of what lies there (see also `_meant`).
FREE = re.compile(r"mesh(\.|$)|sharding(\.|$)|data\.(root|workers|threads|cache)$|eval(\.|$)|"
                  r"train\.(log_every|eval_every|eval_images|eval_at_end|checkpoint_every|keep|skip_limit|spike|compile_budget|"
                  r"transfer_guard|profile|tensorboard)$")
LOCK = ".lock"


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

    before, after = flatten(old), flatten(new)
    plain = lambda value: json.loads(json.dumps(value))
    before = {**{key: after[key] for key, value in flatten(default().to_dict()).items()
                 if key in after and key not in before and plain(after[key]) == plain(value)}, **before}
    keys = sorted(before.keys() | after.keys())
    return [f"{key}: {before.get(key, '(unset)')!r} -> {after.get(key, '(unset)')!r}" for key in keys
            if _meant(key, before.get(key)) != _meant(key, after.get(key)) and not FREE.match(key)]


def _meant(key: str, value: Any) -> Any:
    """A value without the place it names: checkpoints hold the hash of the weights and the fingerprint of the data (`check_resume`)."""
    if key == "backbone.weights":
        return value == "random"
    if key == "data.train" and isinstance(value, (list, tuple)):
        return [{name: entry[name] for name in entry if name != "source"} if isinstance(entry, Mapping) else entry for entry in value]
    return value


def open_workdir(workdir: Path, config: Mapping[str, Any]) -> None:
    """Create the folder with config.json, or check that it holds a run of the same config.

    A folder that holds another run, or files that are no run at all, is a UserError and stays untouched; so does the config.json of
    a run that has begun, until `renew_config`.
    """
    path = workdir / "config.json"
    refusal, new = _refusal(workdir, path, config), not path.exists() or not _others(workdir)
    distributed.barrier("workdir-checked")  # nobody writes before everybody has looked
    if refusal:
        raise UserError(refusal)
    if new:
        renew_config(workdir, config)
    distributed.barrier("workdir-open")


def renew_config(workdir: Path, config: Mapping[str, Any]) -> None:
    """Write config.json: what may change, such as where the data lies, is the run's once it has been found there."""
    if not distributed.is_main():
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        text = json.dumps(config, indent=1, sort_keys=True) + "\n"
        partial = workdir / "config.json.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(workdir / "config.json")
    except OSError as error:
        raise _unwritable(workdir, error) from None


def _unwritable(workdir: Path, error: OSError) -> UserError:
    return UserError(f"The workdir {workdir} cannot be written ({error.strerror or error}); choose another --workdir.")


@contextmanager
def alone(workdir: Path) -> Iterator[None]:
    """Nobody else trains in the folder meanwhile, as far as its file system can lock files; the first process holds the lock."""
    if not distributed.is_main():
        yield
        return
    try:
        lock = open(workdir / LOCK, "a")
    except OSError as error:
        raise _unwritable(workdir, error) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"Another `rein train` is running in {workdir}; wait for it, or choose another --workdir.") from None
        except OSError:  # a file system without locks, such as a mounted bucket
            pass
        yield


def _others(workdir: Path) -> list[str]:
    """What the folder holds beside a config: nothing, as long as no run has begun in it."""
    aside = (".partial", ".log", ".txt")
    return sorted(p.name for p in workdir.iterdir() if p.suffix not in aside and p.name not in ("config.json", LOCK))


def _refusal(workdir: Path, path: Path, config: Mapping[str, Any]) -> str | None:
    """Why this folder cannot be used, or None."""
    if workdir.exists() and not workdir.is_dir():
        return f"The workdir {workdir} is a file; choose another --workdir."
    others = _others(workdir) if workdir.exists() else []
    if not others:
        return None
    if not path.exists():
        return f"The workdir {workdir} holds files that are not a run ({', '.join(others[:3])}); choose an empty or new --workdir."
    try:
        changes = difference(read_json(path, "restore it or choose another --workdir"), config)
    except UserError as error:
        return str(error)
    if not changes:
        return None
    return (f"The workdir {workdir} holds a run with another config; choose another --workdir or undo these changes:\n  "
            + "\n  ".join(changes))


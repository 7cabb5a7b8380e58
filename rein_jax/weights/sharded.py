"""Checkpoints in several files, as Hugging Face stores them: a folder, or an index that says in which shard each array is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from rein_jax.errors import UserError
from rein_jax.weights.entries import Checkpoint, unreadable

_INDEX = ".index.json"
_WHOLE = ("model.safetensors", "pytorch_model.bin")  # what transformers and this package call a model in one file
_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".npz", ".onnx")
_LONGEST = 100_000_000  # bytes of an index
_SHARD = re.compile(r"(.+)-(\d+)-of-(\d+)(\.\w+)")


def open_folder(folder: Path) -> Path:
    """The checkpoint or index that a folder means: a model in one file, an index of shards, or the only checkpoint that is there."""
    try:
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise unreadable(folder, error) from None
    snapshots = [path for path in (folder / "snapshots").glob("*") if path.is_dir()] if "snapshots" in names else []
    if len(snapshots) == 1:  # the cache folder of huggingface_hub
        return open_folder(snapshots[0])
    indices = [name for name in names if name.endswith(_INDEX)]
    safe = [name for name in indices if ".safetensors." in name]
    chosen = [name for name in _WHOLE if name in names][:1] or (safe if len(safe) == 1 else indices)
    chosen = chosen or [name for name in names if name.endswith(_SUFFIXES)]
    if len(chosen) == 1 and not _SHARD.fullmatch(chosen[0]):
        return folder / chosen[0]
    if any(name.endswith(".distcp") for name in names):
        raise UserError(f"{folder} is a checkpoint of torch.distributed, which is not read; where PyTorch is installed, convert it once: "
                        "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE.pth")
    if not chosen:
        raise UserError(f"{folder} is a directory without a checkpoint; give the checkpoint file ({', '.join(_SUFFIXES)}) or *{_INDEX}.")
    if all(_SHARD.fullmatch(name) for name in chosen):
        raise UserError(f"{folder} is a directory of shards without their *{_INDEX}; download that file too.")
    shown = ", ".join(chosen[:4]) + (" ..." if len(chosen) > 4 else "")
    raise UserError(f"{folder} is a directory with several checkpoints ({shown}); give the one you mean.")


def is_index(path: Path) -> bool:
    """True for the name of an index of shards."""
    return path.name.endswith(_INDEX)


def shard_of(path: Path) -> str:
    """"shard 1 of 2" for a file that its name says is a part of a checkpoint, else ""."""
    found = _SHARD.fullmatch(path.name)
    return f"shard {int(found[2])} of {int(found[3])}" if found and int(found[3]) > 1 else ""


def read_index(path: Path, read: Callable[[Path], Checkpoint]) -> Checkpoint:
    """The arrays of all the shards that the index names. read: opens one shard."""
    placed = _weight_map(path)
    shards = {}
    for file in sorted(set(placed.values())):
        if not (path.parent / file).exists():
            raise UserError(f"{path} names the shard {file}, which is not in the same folder; download that file too.")
        shards[file] = read(path.parent / file)
    entries = {}
    for file, shard in shards.items():
        listed = {name for name, where in placed.items() if where == file}
        for name in sorted(listed ^ set(shard)):
            told = "is said to hold" if name in listed else "holds"
            raise UserError(f"{path} does not belong to its shards: {file} {told} {name!r}; download them all again.")
        entries.update(shard.entries)
    files = (path, *(path.parent / file for file in shards))
    return Checkpoint(path, f"{len(shards)} shards, each a {next(iter(shards.values())).kind}", entries, files=files)


def _weight_map(path: Path) -> dict[str, str]:
    """{array: name of the shard}, checked."""
    try:
        if path.stat().st_size > _LONGEST:
            raise UserError(f"{path} is {path.stat().st_size >> 20} MiB long, too long for an index of shards; it is refused.")
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not an index of shards ({error}); download it again.") from None
    placed = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(placed, dict) or not placed or not all(isinstance(file, str) for file in placed.values()):
        raise UserError(f"{path} is not an index of shards (it has no weight_map of names and files); download it again.")
    for file in placed.values():
        if not file or file in (".", "..") or re.search(r"[/\\\0]", file) or file.endswith(_INDEX):
            raise UserError(f"{path} names the shard {file!r}, which is not a file in the same folder; it is refused.")
    return placed

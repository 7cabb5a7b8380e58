"""Reads what `rein prepare` wrote: TFDS ArrayRecord folders with a manifest; the encoded files come back byte for byte."""

from __future__ import annotations

import bisect
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from data_pipelines import decoders
from data_pipelines.errors import DataError
from data_pipelines.files import NothingThere
from data_pipelines.labels import Classes
from data_pipelines.paths import local_path
from data_pipelines.source import Encoded, Facts, Source, subset_step

MANIFEST = "manifest.json"
LOCK = ".prepare.lock"
FORMAT = "rein-records-1"


def is_prepared(path: Path) -> bool:
    """Whether a folder was written by `rein prepare` (finished)."""
    return path.is_dir() and (path / MANIFEST).is_file() and FORMAT in (path / MANIFEST).read_text()[:200]


def recognise(path: Path) -> bool:
    """Whether a source is a prepared folder; raises DataError if `rein prepare` has begun there but not finished."""
    if is_prepared(path):
        return True
    if path.is_dir() and (path / LOCK).exists():
        raise DataError(f"`rein prepare` has not finished in {path}; run the same command again, it goes on where it was.")
    return False


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a prepared folder."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path / MANIFEST} cannot be read ({error}); run `rein prepare` again.") from None
    if manifest.get("format") != FORMAT:
        raise DataError(f"{path / MANIFEST} has another format than {FORMAT}; prepare again with this version.")
    return manifest


def tfds_split(split: str) -> str:
    """The name of a split inside TFDS, which keeps "all" for itself."""
    return "whole" if split == "all" else split


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path, *, content: bool = True) -> None:
    """Raises DataError if a file of a prepared folder is missing, has another size or (`content`) another checksum."""
    for part in (part for split in read_manifest(path)["splits"].values() for part in split["parts"]):
        for name, expected in part["files"].items():
            file = path / part["folder"] / name
            if not file.is_file() or file.stat().st_size != expected["bytes"]:
                raise DataError(f"{file} is missing or has another size than the manifest says; run `rein prepare` again.")
            if content and file_digest(file) != expected["sha256"]:
                raise DataError(
                    f"{file} does not have the checksum that the manifest gives; delete it and run `rein prepare` again."
                )


def facts_to_json(facts: Facts) -> dict[str, Any]:
    """What the manifest keeps of a source."""
    return {
        "domain": facts.domain, "found": facts.found, "has_labels": facts.has_labels, "mismatch": facts.mismatch,
        "options": facts.options, "decode": decoders.to_json(facts.decode),
        "classes": {"names": list(facts.classes.names), "palette": [list(colour) for colour in facts.classes.palette]},
    }  # fmt: skip


def facts_from_json(name: str, split: str, kept: dict[str, Any]) -> Facts:
    """The inverse of `facts_to_json`."""
    classes = Classes(tuple(kept["classes"]["names"]), tuple(tuple(colour) for colour in kept["classes"]["palette"]))
    return Facts(
        name, split, kept["domain"], classes, f"{kept['found']}, prepared as ArrayRecord", decoders.from_json(kept["decode"]),
        kept["has_labels"], kept["mismatch"], kept["options"],
    )  # fmt: skip


class RecordSource(Source):
    """Elements of a prepared folder, read through `tfds.data_source`; `step` takes every step-th one."""

    def __init__(self, path: Path, facts: Facts, parts: list[dict[str, Any]], *, step: int = 1, **policy: str):
        super().__init__(facts, **policy)
        self.path, self.parts, self.step = path, parts, step
        self._ends: list[int] = []
        for part in parts:
            self._ends.append(part["elements"] + (self._ends[-1] if self._ends else 0))
        self._opened: dict[int, Any] = {}

    def __getstate__(self):
        return {**self.__dict__, "_opened": {}}  # readers reopen in the process that uses them

    def __len__(self) -> int:
        return -(-self._ends[-1] // self.step)

    def encoded(self, index: int) -> Encoded:
        at = index * self.step
        part = bisect.bisect_right(self._ends, at)
        folder = self.path / self.parts[part]["folder"]
        try:
            if part not in self._opened:
                self._opened[part] = _data_source(folder, self.split)
            record = self._opened[part][at - (self._ends[part - 1] if part else 0)]
        except (OSError, ValueError, RuntimeError, IndexError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(f"{folder} cannot be read ({reason}); run `rein prepare` again.") from None
        name = record["name"].decode()
        label = record["label"] if self.has_labels else None
        return Encoded(name, record["image"], label, f"{folder}/{name}", f"{folder}/{name} (label)")

    def entry_name(self, index: int) -> str:
        """Name of element `index`, which is a part of the record; its number where the record cannot be read."""
        try:
            return self.encoded(index).name
        except DataError:
            return f"element {index}"

    def entries(self) -> list[tuple[str, int, int]]:
        """Shard checksums stand for the elements, so that a fingerprint does not read them all."""
        return [
            (f"{name} {expected['sha256']}", expected["bytes"], self.step)
            for part in self.parts
            for name, expected in sorted(part["files"].items())
        ]


def _data_source(folder: Path, split: str) -> Any:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(folder))
    return builder.as_data_source(tfds_split(split), decoders={"image": tfds.decode.SkipDecoding()})


def open_records(
    path: str | os.PathLike, name: str, split: str, *, options: dict[str, Any], subset: str | None = None, **policy: str
) -> RecordSource:
    """Opens one split of a prepared folder; options must be those it was prepared with."""
    path = local_path(path)
    manifest = read_manifest(path)
    if manifest["dataset"] != name:
        raise DataError(f"{path} was prepared from data set {manifest['dataset']!r}, not {name!r}; use that name.")
    if split not in manifest["splits"]:
        raise NothingThere(
            f"{path} holds no split {split!r} (it has {', '.join(sorted(manifest['splits']))}); prepare it with --split {split}."
        )
    kept = manifest["splits"][split]
    changed = [key for key, value in options.items() if kept["options"].get(key) != value]
    if changed:
        key = changed[0]
        raise DataError(
            f"{path} was prepared with {key}={kept['options'].get(key)!r}, not {options[key]!r}; "
            "open it as it was prepared, or prepare another folder."
        )
    verify(path, content=False)
    return RecordSource(path, facts_from_json(name, split, kept), kept["parts"], step=subset_step(subset), **policy)

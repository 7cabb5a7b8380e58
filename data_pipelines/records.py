"""Reads what `rein prepare` wrote: ArrayRecord files with a manifest; the encoded files come back byte for byte.

The folders are TFDS' and TFDS can read them, but they are not read through it here: it imports whatever module a features.json
names, and a prepared folder may come from anybody. Records are parsed as the three features that `builders.py` writes.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from google.protobuf.message import Error as ProtobufError

from data_pipelines import decoders
from data_pipelines.errors import DataError
from data_pipelines.files import NothingThere, read_file, shown
from data_pipelines.labels import ClassInfo
from data_pipelines.paths import local_path
from data_pipelines.source import Encoded, Facts, Source, subset_step

MANIFEST = "manifest.json"
LOCK = ".prepare.lock"
FORMAT = "rein-records-1"
FEATURES = ("image", "label", "name")


def is_prepared(path: Path) -> bool:
    """Whether a folder was written by `rein prepare` (finished)."""
    if not (path.is_dir() and (path / MANIFEST).is_file()):
        return False
    with open(path / MANIFEST, "rb") as file:
        return FORMAT.encode() in file.read(200)


def recognise(path: Path) -> bool:
    """Whether a source is a prepared folder; raises DataError if `rein prepare` has begun there but not finished."""
    if is_prepared(path):
        return True
    if path.is_dir() and (path / LOCK).exists():
        raise DataError(f"`rein prepare` has not finished in {path}; run the same command again, it continues where it stopped.")
    return False


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a prepared folder; DataError if it is not what `rein prepare` writes."""
    try:
        manifest = json.loads(read_file(path / MANIFEST))
    except ValueError as error:
        raise DataError(f"{path / MANIFEST} cannot be read ({error}); run `rein prepare` again.") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{path / MANIFEST} has another format than {FORMAT}; prepare again with this version.")
    try:
        for name, split in manifest["splits"].items():
            facts_from_json(manifest["dataset"], name, split)
            for part in split["parts"] or [{}]:  # there is at least one
                _check_part(part)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path / MANIFEST} is not what `rein prepare` writes ({error}); run it again.") from None
    return manifest


def _check_part(part: dict[str, Any]) -> None:
    """Raises one of several errors for what is no part of a manifest, or names files outside the prepared folder."""
    if not isinstance(part["elements"], int) or part["elements"] < 0:
        raise ValueError(f"a part of {part['elements']!r} elements")
    for name, expected in part["files"].items():
        if PurePosixPath(part["folder"], name).is_absolute() or {"..", ""} & {*part["folder"].split("/"), *name.split("/")}:
            raise ValueError(f"{name!r} lies outside the folder")
        if not isinstance(expected["bytes"], int) or not isinstance(expected["sha256"], str):
            raise TypeError(f"{name!r} has no size and checksum")


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
    classes = ClassInfo(tuple(kept["classes"]["names"]), tuple(tuple(colour) for colour in kept["classes"]["palette"]))
    return Facts(
        name, split, kept["domain"], classes, f"{kept['found']}, prepared as ArrayRecord", decoders.from_json(kept["decode"]),
        kept["has_labels"], kept["mismatch"], kept["options"],
    )  # fmt: skip


class RecordSource(Source):
    """Elements of a prepared folder, opened part by part; `step` takes every step-th one."""

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
                self._opened[part] = _open_part(folder, self.parts[part], self.split)
            record = _parse(self._opened[part][at - (self._ends[part - 1] if part else 0)])
        except (OSError, ValueError, RuntimeError, LookupError, ProtobufError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(f"{folder} cannot be read ({shown(reason)}); run `rein prepare` again.") from None
        name = shown(record["name"].decode("utf-8", "surrogateescape"))
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


def _open_part(folder: Path, part: dict[str, Any], split: str) -> Sequence[bytes]:
    """The records of a part; a folder that Beam wrote holds those of other splits too."""
    shards = sorted(name for name in part["files"] if f"-{tfds_split(split)}.array_record-" in name)
    if not shards:
        raise ValueError("it holds no records of this split")
    return array_records([str(folder / name) for name in shards])


def array_records(shards: Sequence[str]) -> Sequence[bytes]:
    """The records of some files as one sequence; a DataError where the system has no array_record (Windows)."""
    try:
        from array_record.python.array_record_data_source import ArrayRecordDataSource
    except ImportError:
        raise DataError("Prepared folders (ArrayRecord files) need the package array_record, which this system lacks; on Windows use WSL, "
                        "or open the original data set.") from None
    return ArrayRecordDataSource(shards)


def _parse(record: bytes) -> dict[str, bytes]:
    """The three features of an example as bytes; LookupError where one is missing."""
    from tensorflow_datasets.proto import tf_example_pb2  # takes a second

    features = tf_example_pb2.Example.FromString(record).features.feature
    return {name: features[name].bytes_list.value[0] for name in FEATURES}


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

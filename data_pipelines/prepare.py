"""Writes a data set as TFDS ArrayRecord in parts: parallel, resumable, with checksums. Reading back is in `records.py`.

OUT/rein_NAME/SPLIT_0000_of_0004/1.0.0/ holds one part; TFDS writes it under another name and renames it when it is whole, so an
interrupted run leaves finished parts, which the next run keeps, and scraps, which it removes. OUT/manifest.json comes last.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import multiprocessing
import os
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipelines.atomic import write_atomically
from data_pipelines.errors import DataError
from data_pipelines.lock import Taken, locked
from data_pipelines.paths import local_path
from data_pipelines.places import locate
from data_pipelines.records import FORMAT, LOCK, MANIFEST, array_records, facts_to_json, file_digest, is_prepared, read_manifest, tfds_split
from data_pipelines.source import FileSource, Source

CHECKSUMS = "checksums.json"
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.ENOENT, errno.ESTALE)


@dataclass(frozen=True)
class Part:
    """Elements `start` to `stop` of a split, and the folder below OUT that they go to."""

    split: str
    folder: str
    start: int
    stop: int
    fingerprint: str


def prepare(
    name: str,
    source: str | os.PathLike | None,
    out: str | os.PathLike,
    *,
    splits: tuple[str, ...] = (),
    jobs: int = 1,
    part_bytes: int = 1 << 30,
    say: Callable[[str], None] = print,
    **options: Any,
) -> dict[str, Any]:
    """Writes the splits of data set `name` (default: all that are there) below `out` and returns the manifest.

    Finished parts of an earlier run are kept if the source has not changed. Raises DataError for a source that does not fit.
    """
    from data_pipelines.builders import open_splits

    out = local_path(out)
    if is_prepared(out) and read_manifest(out)["dataset"] != name:
        raise DataError(f"{out} already holds data set {read_manifest(out)['dataset']!r}; choose another --out.")
    opened = open_splits(name, source, splits, **options)
    for made in opened.values():
        if not isinstance(made, FileSource):
            raise DataError(f"Data set {name!r} at {source} does not consist of files; there is nothing to prepare.")
    with _writing(out), _alone(out):
        _sweep(out, name)
        plans = {split: plan(name, made, part_bytes) for split, made in opened.items()}
        parts = [part for planned in plans.values() for part in planned]
        todo = [part for part in parts if not _finished(out, part)]
        say(f"{name}: {len(parts)} parts of {sum(map(len, opened.values()))} pairs, {len(parts) - len(todo)} already there.")
        for done, part in enumerate(_write_all(out, name, opened, todo, jobs), 1):
            say(f"  wrote {part.folder} ({done}/{len(todo)})")
        return _write_manifest(out, name, opened, plans)


def plan(name: str, source: FileSource, part_bytes: int) -> list[Part]:
    """Cuts a split into parts of about `part_bytes`; the cut depends on the files alone, not on the number of jobs."""
    entries, states = source.entries(), source.states()
    sizes = [image + max(label, 0) for _, image, label in entries]
    count = max(1, min(len(entries), -(-sum(sizes) // part_bytes)))
    cuts = [len(entries) * k // count for k in range(count + 1)]
    parts = []
    for k in range(count):
        content = (facts_to_json(source.facts), entries[cuts[k] : cuts[k + 1]], states[cuts[k] : cuts[k + 1]])
        fingerprint = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        folder = f"rein_{name}/{source.split}_{k:04d}_of_{count:04d}/1.0.0"
        parts.append(Part(source.split, folder, cuts[k], cuts[k + 1], fingerprint))
    return parts


@contextlib.contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Makes the folder `out`; what keeps it from being written (a full disk, above all) becomes one DataError."""
    reason = "a process that wrote was killed, perhaps for want of memory: use fewer --jobs"
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
        return
    except BrokenProcessPool:
        pass
    except OSError as error:
        reason = error.strerror or str(error)
    except RuntimeError as error:  # how TFDS and the writer of ArrayRecord tell what the system said
        said = [os.strerror(code) for code in _DISK if os.strerror(code) in str(error)]
        if not said:
            raise
        reason = said[0]
    raise DataError(
        f"{out} cannot be written ({reason}); free space or choose another --out, then run the same command again: parts that are "
        "finished are kept."
    )


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(out / LOCK))
        except Taken:
            raise DataError(f"Another `rein prepare` is writing to {out}; wait for it or choose another --out.") from None
        yield


def _sweep(out: Path, name: str) -> None:
    """Removes what an interrupted run left half written."""
    for scrap in (out / f"rein_{name}").glob("*/*incomplete*"):
        shutil.rmtree(scrap)


def _finished(out: Path, part: Part) -> bool:
    """Whether the part is whole and was made from the same files; otherwise what is there is removed."""
    folder = out / part.folder
    kept = _checksums(folder)
    whole = kept is not None and kept["fingerprint"] == part.fingerprint
    if whole and all((folder / f).is_file() and (folder / f).stat().st_size == e["bytes"] for f, e in kept["files"].items()):
        return True
    if folder.exists():
        shutil.rmtree(folder)
    return False


def _checksums(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder.parent / CHECKSUMS).read_text())
    except (OSError, ValueError):
        return None


def _write_all(out: Path, name: str, opened: dict[str, Source], todo: list[Part], jobs: int) -> Iterator[Part]:
    slices = [(str(out), name, _slice(opened[part.split], part), part) for part in todo]
    if jobs <= 1 or len(todo) <= 1:
        for task in slices:
            yield write_part(*task)
        return
    with ProcessPoolExecutor(min(jobs, len(todo)), mp_context=multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(write_part, *task) for task in slices]
        try:
            for task in as_completed(running):
                yield task.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _slice(source: FileSource, part: Part) -> FileSource:
    return FileSource(source.facts, source.files, source.pairs[part.start : part.stop], policy=source.policy, exif=source.exif)


def write_part(out: str, name: str, source: FileSource, part: Part) -> Part:
    """Writes one part with its TFDS builder, then its checksums."""
    from data_pipelines.builders import BUILDERS, PartConfig

    config = PartConfig(
        name=Path(part.folder).parent.name,
        source=source,
        split=part.split,
        indices=range(len(source)),
        fingerprint=part.fingerprint,
    )
    with _quiet():
        builder = BUILDERS[name](data_dir=out, config=config, file_format="array_record")
        builder.download_and_prepare(download_dir=str(Path(out) / f"rein_{name}"), file_format="array_record")
    folder = Path(out) / part.folder
    count = builder.info.splits[tfds_split(part.split)].num_examples
    _check_whole(folder, part.split, count)
    _replace(folder.parent / CHECKSUMS, _describe(folder, count) | {"fingerprint": part.fingerprint})
    return part


def _check_whole(folder: Path, split: str, count: int) -> None:
    """Raises OSError if not every record that was written can be found again."""
    shards = [str(path) for path in folder.glob(f"*-{tfds_split(split)}.array_record-*")]
    if not shards or len(array_records(shards)) != count:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(folder))


def _describe(folder: Path, count: int) -> dict[str, Any]:
    files = {p.name: {"bytes": p.stat().st_size, "sha256": file_digest(p)} for p in sorted(folder.iterdir())}
    return {"elements": count, "files": files}


def _replace(path: Path, content: Any) -> None:
    """Writes JSON so that a reader sees the old or the new file, never half of one."""
    write_atomically(path, json.dumps(content, indent=1))


def prepare_with_beam(
    name: str,
    source: str | os.PathLike | None,
    out: str | os.PathLike,
    flags: str,
    *,
    splits: tuple[str, ...] = (),
    **options: Any,
) -> dict[str, Any]:
    """Writes a data set through Apache Beam as `flags` (of Beam) say, then the manifest, which is returned.

    TFDS does not take up a half-finished Beam run again: it starts over.
    """
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise DataError("--beam needs Apache Beam: pip install apache-beam.") from None
    import tensorflow_datasets as tfds

    from data_pipelines.builders import BUILDERS, VERSION, PartConfig, open_splits

    out = local_path(out)
    with _writing(out), _alone(out):
        _sweep(out, name)
        place = str(locate(name, source))
        config = PartConfig(name="beam", beam=True, place=place, splits=splits, options=options)
        with _quiet():
            builder = BUILDERS[name](data_dir=str(out), config=config, file_format="array_record")
            builder.download_and_prepare(
                download_dir=str(out / f"rein_{name}"),
                download_config=tfds.download.DownloadConfig(beam_options=PipelineOptions(flags.split())),
                file_format="array_record",
            )
        folder, kept = f"rein_{name}/beam/{VERSION}", {}
        for split, made in open_splits(name, place, splits, **options).items():
            count = builder.info.splits[tfds_split(split)].num_examples
            part = {"folder": folder, **_describe(out / folder, count)}
            kept[split] = {"elements": count, **facts_to_json(made.facts), "parts": [part]}
        manifest = {"format": FORMAT, "dataset": name, "splits": kept}
        _replace(out / MANIFEST, manifest)
    return manifest


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without TFDS' announcements on stdout and in the log; `say` tells what is going on."""
    import tensorflow_datasets as tfds

    logger = logging.getLogger("absl")
    level = logger.level
    tfds.disable_progress_bar()
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(None):
            yield
    finally:
        logger.setLevel(level)


def _write_manifest(out: Path, name: str, opened: dict[str, Source], plans: dict[str, list[Part]]) -> dict[str, Any]:
    splits = read_manifest(out)["splits"] if is_prepared(out) else {}
    for split, planned in plans.items():
        parts = [{"folder": part.folder, **_checksums(out / part.folder)} for part in planned]
        facts = facts_to_json(opened[split].facts)
        splits[split] = {"elements": sum(part["elements"] for part in parts), **facts, "parts": parts}
    manifest = {"format": FORMAT, "dataset": name, "splits": splits}
    _replace(out / MANIFEST, manifest)
    used = {Path(part["folder"]).parent.name for kept in splits.values() for part in kept["parts"]}
    for folder in (out / f"rein_{name}").iterdir():
        if folder.name not in used and re.fullmatch(r".+_\d{4}_of_\d{4}|extracted", folder.name):
            shutil.rmtree(folder)
    return manifest

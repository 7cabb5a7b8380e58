"""Predict everything that was named: pictures in batches, videos frame by frame; what fails is listed, the rest is done."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from data_pipelines.errors import DataError
from data_pipelines.files import shown
from data_pipelines.paths import local_path
from data_pipelines.protocols import protocol as find_protocol
from rein_jax.errors import UserError
from rein_jax.evaluation.answers import answers, out_of_memory
from rein_jax.evaluation.eval_model import EvalModel, eval_model
from rein_jax.evaluation.windows import Query
from rein_jax.predict import inputs, outputs, pixels
from rein_jax.predict.inputs import Item
from rein_jax.predict.maps import KINDS, MapPredictor
from rein_jax.predict.video import predict_video

FAILURES = (DataError, UserError, OSError, MemoryError, cv2.error)  # of one file: it is listed with its reason, the others are done


@dataclass
class Summary:
    """What became of the inputs. images, frames: numbers done; failed: {path: reason}; out: where the results are."""

    out: Path
    images: int = 0
    frames: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """For people: one line of numbers, then one for each failure."""
        done = f"{self.images} image{'s' * (self.images != 1)}" + (f" and {self.frames} video frames" if self.frames else "")
        lines = [f"{done} -> {self.out}"]
        if self.failed:
            lines += [f"{len(self.failed)} could not be predicted:", *(f"  {path}: {why}" for path, why in self.failed.items())]
        return [shown(line) for line in lines]


@dataclass
class Job:
    """Everything that stays the same from file to file; see `predict_files`."""

    predictor: MapPredictor
    style: outputs.Style
    saves: tuple[str, ...]
    fit: Callable[[np.ndarray], np.ndarray]
    out: Path
    megapixels: float
    frames: bool


def prepare(model: Any, out: str | Path, *, saves: Sequence[str] = ("labels", "overlay"), ids: str = "train", palette=None,
            opacity: float = 0.6, protocol: str | None = None, mode: str | None = None, crop=None, stride=None, batch: int | None = None,
            scales: Iterable[float] = (1.0,), flip: bool = False, precision: str | None = "auto", megapixels: float = pixels.MEGAPIXELS,
            frames: bool = False) -> Job:
    """The job for a model (path or Segmenter) with its options checked; windows and protocol are by default the run's own."""
    outputs.check_saves(saves)
    out = local_path(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a folder for the results.")
    found = eval_model(model, precision=precision)
    own = (found.facts.get("config") or {}).get("eval", {})
    kinds = tuple(kind for kind in saves if kind in KINDS)
    predictor, fit = map_predictor(found, own, kinds, protocol, mode, crop, stride, batch, scales, flip)
    shown = outputs.style(found.classes, ids=ids, palette=palette, opacity=opacity)
    return Job(predictor, shown, tuple(dict.fromkeys(saves)), fit, out, megapixels, frames)


def map_predictor(found: EvalModel, own: Mapping[str, Any], kinds: Sequence[str], protocol: str | None, mode: str | None, crop, stride,
                  batch: int | None, scales: Iterable[float], flip: bool) -> tuple[MapPredictor, Callable[[np.ndarray], np.ndarray]]:
    """(predictor, what an image of a file goes through first). own: the section `eval` of the model's config, for what is None here."""
    given = {"mode": mode or own.get("mode", "slide"), "batch": batch or own.get("batch", 4), **windows(own, crop, stride, found.patch)}
    predictor = MapPredictor(found.module_def, found.params, classes=len(found.classes), patch=found.patch, scales=scales, flip=flip,
                             kinds=kinds, **given)
    rule = find_protocol((protocol or own.get("protocol", "full")).replace("_", "-"))
    return predictor, lambda image: rule.apply(image, None, "files")[0]


def windows(own: dict[str, Any], crop, stride, patch: int) -> dict[str, Any]:
    """Window and stride: as given, else the run's, else 512 (rounded to the patch) with steps of two thirds."""
    window = crop or own.get("crop") or 512 // patch * patch
    step = stride or (own.get("stride") if crop is None else None)
    thirds = tuple(2 * side // 3 for side in window) if isinstance(window, list | tuple) else 2 * window // 3
    return {"window": window, "stride": step or thirds}


def predict_files(model: Any, paths: Iterable[str], out: str | Path = "predictions", *, progress: bool = True, **options: Any) -> Summary:
    """Predict pictures, folders, globs and videos into a folder.

    Args:
        model: run folder, model.safetensors or Segmenter.
        paths: pictures, videos, folders (searched below) and globs.
        out: folder of the results; each kind gets a folder in it.
        progress: show a bar on a terminal.
        **options: saves (labels, overlay, confidence, entropy, probabilities), ids ("train", "labels" or numbers), palette (class list
            file), opacity, protocol, mode, crop, stride, batch, scales, flip, precision, megapixels (limit for one picture), frames (label
            PNGs of video frames too).

    Returns:
        What was done and what failed, `.images`, `.frames`, `.failed` {path: reason}; a file that fails does not stop the others.

    Raises:
        UserError: a path that does not exist, an unknown option, or a model that cannot be loaded.
    """
    items = inputs.find([str(path) for path in paths], local_path(out))
    job = prepare(model, out, **options)
    summary = Summary(job.out)
    run(job, items, summary, progress)
    return summary


def run(job: Job, items: Sequence[Item], summary: Summary, bar: bool = False) -> None:
    """Pictures first (batched over files), then each video; the summary is true at every moment. bar: of progress, on a terminal."""
    total = sum(not item.video for item in items)
    with tqdm(total=total, unit="image", disable=None if bar else True) as shown_bar:
        _run(job, items, summary, shown_bar.update)


def _run(job: Job, items: Sequence[Item], summary: Summary, progress: Callable[[int], Any]) -> None:
    pictures(job, [item for item in items if not item.video], summary, progress)
    for item in items:
        if item.video:
            try:
                summary.frames += predict_video(job.predictor, item, job.out, job.saves, job.style, fit=job.fit, megapixels=job.megapixels,
                                                frames=job.frames, progress=progress)
            except FAILURES as error:
                summary.failed[str(item.path)] = _reason(error, item.path)


def pictures(job: Job, items: Sequence[Item], summary: Summary, progress: Callable[[int], Any]) -> None:
    """Reads ahead in threads, predicts in batches across files, writes in threads."""
    def queries() -> Iterator[Query]:
        for item, found in _ahead(items, read):
            if isinstance(found, tuple):
                image, fitted = found
                yield Query((item, image), fitted, image.shape[:2])
            else:
                summary.failed[str(item.path)] = _reason(found, item.path)
                progress(1)

    def read(item: Item) -> tuple[np.ndarray, np.ndarray]:
        image = pixels.read(item.path, job.megapixels)
        return image, job.fit(image)

    def save(answered) -> None:
        (item, image), maps = answered[0].tag, answered[1]
        if isinstance(maps, Exception):
            raise maps
        outputs.write(job.out, item.name, image, maps, job.saves, job.style)

    for (query, _), result in _ahead(answers(job.predictor, queries()), save):
        if isinstance(result, Exception):
            path = query.tag[0].path
            summary.failed[str(path)] = _reason(result, path)
        else:
            summary.images += 1
        progress(1)


def _ahead(things: Iterable[Any], action: Callable[[Any], Any], threads: int = 2, ahead: int = 4) -> Iterator[tuple[Any, Any]]:
    """(thing, action(thing) or the one of FAILURES it raised), in order, a few of them under way at once."""
    def tried(thing):
        try:
            return action(thing)
        except FAILURES as error:
            return error

    with ThreadPoolExecutor(threads, thread_name_prefix="rein-predict") as pool:
        waiting: deque = deque()
        for thing in things:
            waiting.append((thing, pool.submit(tried, thing)))
            if len(waiting) >= ahead:
                first, result = waiting.popleft()
                yield first, result.result()
        while waiting:
            first, result = waiting.popleft()
            yield first, result.result()


def _reason(error: Exception, path: Path) -> str:
    if out_of_memory(error):
        return "there is too little memory for it; make it smaller, or close other programs."
    if isinstance(error, OSError | cv2.error):
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return str(error).removeprefix(f"{path} ")


def watch(job: Job, folder: Path, summary: Summary, *, every: float = 1.0, idle: float | None = None,
          note: Callable[[str], Any] = print) -> None:
    """Predict the files of a folder as they appear or change; ends after `idle` seconds without a new one, or never.

    A file counts as there when its size and time have not changed between two looks, so that half-copied ones are left alone.
    """
    done: dict[Path, tuple] = {}
    seen: dict[Path, tuple] = {}
    last = time.monotonic()
    while idle is None or time.monotonic() - last < idle:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder, or not any more; name the folder to watch.")
        items = {item.path: item for item in inputs.below(folder, job.out)}
        now = {path: mark for path in items if (mark := _mark(path)) is not None}
        ready = [items[path] for path, mark in now.items() if seen.get(path) == mark and done.get(path) != mark]
        if ready:
            for item in ready:  # one that failed before may be repaired now
                summary.failed.pop(str(item.path), None)
            run(job, ready, summary)
            done.update({item.path: now[item.path] for item in ready})
            for item in ready:
                note(shown(f"{item.path}: {summary.failed.get(str(item.path), 'done')}"))
            last = time.monotonic()
        seen = now
        time.sleep(every)


def _mark(path: Path) -> tuple | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns

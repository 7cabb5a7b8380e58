"""Models that share their frozen arrays, and one worker that answers requests in batches out of a bounded queue."""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np

from data_pipelines.labels import ClassInfo
from rein_jax import trees
from rein_jax.errors import UserError
from rein_jax.evaluation import device
from rein_jax.evaluation.answers import answers
from rein_jax.evaluation.eval_model import eval_model
from rein_jax.evaluation.windows import Query, local_mesh, pair
from rein_jax.predict.maps import MapPredictor, Maps
from rein_jax.predict.run import windows

STEP = 128  # pixels


class Full(Exception):
    """The queue is full; `after` is a guess, in seconds, when to ask again."""

    def __init__(self, after: int):
        super().__init__("the queue is full")
        self.after = after


@dataclass
class Served:
    """One model: its name on the page, what it is, and its predictor."""

    name: str
    method: str
    backbone: str
    classes: ClassInfo
    predictor: MapPredictor
    window: tuple[int, int]


@dataclass(eq=False)
class Job:
    """One request: an image at the size the model sees it, and the future of its maps."""

    model: str
    image: np.ndarray
    future: Future = field(default_factory=Future)


def share(params: trees.FlatParams, resident: dict[str, list[jax.Array]]) -> tuple[trees.FlatParams, int]:
    """Device arrays of `params`, taking those already resident where they are equal; (arrays, bytes shared)."""
    out, saved = {}, 0
    for name, value in params.items():
        known = resident.setdefault(name, [])
        same = next((a for a in known if a.shape == value.shape and a.dtype == value.dtype and np.array_equal(a, value)), None)
        if same is None:
            same = device.place({name: value}, local_mesh(None))[name]
            known.append(same)
        else:
            saved += same.nbytes
        out[name] = same
    return out, saved


def open_models(paths: Sequence[str], precision: str = "auto", batch: int = 4) -> tuple[dict[str, Served], int]:
    """({name: model}, bytes that later models share with earlier ones). Names are those of the runs, made unique.

    Windows, and whole images in a run that is tested so, as in the run; what is smaller than a window is padded to multiples of
    STEP pixels, so that strangers' sizes cannot make the server compile without end.
    """
    models: dict[str, Served] = {}
    resident: dict[str, list[jax.Array]] = {}
    total = 0
    for path in paths:
        found = eval_model(path, precision=precision)
        params, saved = share(found.params, resident)
        total += saved
        config = found.facts.get("config") or {}
        own = config.get("eval", {})
        chosen = {"mode": own.get("mode", "slide"), **windows(own, None, None, found.patch)}
        step = STEP if chosen["mode"] == "whole" else math.gcd(STEP, *pair(chosen["window"]))
        predictor = MapPredictor(found.module_def, params, kinds=("confidence",), classes=len(found.classes), patch=step, batch=batch,
                                 **chosen)
        name = _unique(str(config.get("name") or Path(path).stem), models)
        models[name] = Served(name, str(config.get("adapter", {}).get("name", "")), str(config.get("backbone", {}).get("name", "")),
                              found.classes, predictor, predictor.window)
    return models, total


def _unique(name: str, models: dict[str, Served]) -> str:
    number, chosen = 2, name
    while chosen in models:
        chosen, number = f"{name}-{number}", number + 1
    return chosen


class Engine:
    """Answers `submit`ted images in batches, one model after another, on one thread; at most `waiting` requests wait, and no more
    than are answered in about `patience` seconds: on a slow machine a full queue would be answered after its clients have gone.

    side: images are shrunk so that their longer side is at most this. Windows of all the images of a batch go through one
    compiled program (images smaller than a window, and those of a model that sees whole images: one for each multiple of STEP).
    """

    def __init__(self, models: dict[str, Served], *, waiting: int = 64, side: int = 1024, batch: int = 4,
                 patience: float = 20.0):
        if not models:
            raise UserError("Name at least one model to serve.")
        self.models, self.side, self.batch, self.patience = models, side, batch, patience
        self.queue: queue.Queue[Job | None] = queue.Queue(waiting)
        self.seconds = 1.0  # a moving mean per image, for Retry-After
        self.done = 0
        self.thread = threading.Thread(target=self._work, name="rein-serve", daemon=True)
        self.thread.start()

    def warm(self) -> float:
        """Compile every model's program; returns the seconds it took."""
        begin = time.perf_counter()
        for model in self.models.values():
            self.submit(model.name, np.zeros((*model.window, 3), np.uint8)).future.result()
        self.seconds = 1.0  # compiling is no measure of what an image takes
        return time.perf_counter() - begin

    def submit(self, model: str, image: np.ndarray) -> Job:
        """A job for an image uint8 [H, W, 3]: its image after `fit`, and the future of the `Maps` of that. Raises `Full`."""
        before = self.queue.qsize()
        after = max(1, round(self.seconds * before / 2))
        if before > self.batch and before * self.seconds > self.patience:
            raise Full(after)
        job = Job(model, fit(image, self.models[model].window, self.side))
        try:
            self.queue.put_nowait(job)
        except queue.Full:
            raise Full(after) from None
        return job

    def close(self) -> None:
        """Ends the worker after the batch under way; what waits is cancelled."""
        with contextlib.suppress(queue.Empty):
            while True:
                if (job := self.queue.get_nowait()) is not None:
                    job.future.cancel()
        self.queue.put(None)
        self.thread.join(timeout=30)

    def _work(self) -> None:
        held: list[Job] = []  # of other models, taken from the queue while a batch was collected
        while True:
            first = held.pop(0) if held else self.queue.get()
            if first is None:
                return
            batch = [first, *(job for job in held if job.model == first.model)][: self.batch]
            held = [job for job in held if job not in batch]
            while len(batch) < self.batch and len(held) < self.batch:
                try:
                    job = self.queue.get_nowait()
                except queue.Empty:
                    break
                if job is None:
                    self.queue.put(None)
                    break
                (batch if job.model == first.model else held).append(job)
            self._answer(batch)

    def _answer(self, jobs: list[Job]) -> None:
        jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]  # whoever gave up is not computed for
        if not jobs:
            return
        begin = time.perf_counter()
        queries = [Query(number, job.image, job.image.shape[:2]) for number, job in enumerate(jobs)]
        try:
            for query, maps in answers(self.models[jobs[0].model].predictor, queries):
                future = jobs[query.tag].future
                future.set_exception(maps) if isinstance(maps, Exception) else future.set_result(maps)
        except Exception as error:  # one bad batch must not end the server; each waiting request gets the error
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(error)
        self.done += len(jobs)
        self.seconds = 0.8 * self.seconds + 0.2 * (time.perf_counter() - begin) / len(jobs)


def fit(image: np.ndarray, window: tuple[int, int], side: int) -> np.ndarray:
    """The image, shrunk where its longer side exceeds `side` (or the window, if that is more)."""
    height, width = image.shape[:2]
    scale = min(1.0, max(side, *window) / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return image


def shares(maps: Maps, classes: ClassInfo) -> list[dict[str, Any]]:
    """Classes that occur: id, name, colour, share of the pixels and mean confidence, the largest first."""
    counts = np.bincount(maps.labels.ravel(), minlength=len(classes))[: len(classes)]
    sums = np.bincount(maps.labels.ravel(), weights=maps.confidence.ravel() / 255, minlength=len(classes))
    rows = [{"id": i, "name": classes.names[i], "colour": list(classes.palette[i]), "share": round(float(counts[i] / maps.labels.size), 5),
             "confidence": round(float(sums[i] / counts[i]), 4)} for i in np.flatnonzero(counts).tolist()]
    return sorted(rows, key=lambda row: -row["share"])

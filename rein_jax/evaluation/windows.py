"""Predictions for images of any size: windows of many images in batches of one shape, over all devices.

    predictor = Predictor(module_def, params, classes=19, window=512, stride=341)
    for answer in predictor.stream((name, image, image.shape[:2]) for ...):
        answer.tag, answer.labels                      # uint8 [H, W] at the size of the image file

Per window the model's scores are added to the image's canvas, divided by the number of windows over each pixel, resized
to the size of the image file and only then decided by argmax, as the original does (mmsegmentation's `slide_inference`
and `postprocess_result`). Each image lives on one device; a batch holds `batch` windows for every device.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rein_jax.errors import UserError
from rein_jax.evaluation import device
from rein_jax.evaluation.grid import bucket, coverage, starts, taps
from rein_jax.metrics.calibration import LEVELS


class Query(NamedTuple):
    """An image to predict: any tag, uint8 [h, w, 3] RGB at the resolution to test at, the size (H, W) of the result, a name."""

    tag: Hashable
    image: np.ndarray
    size: tuple[int, int]
    name: str = ""


class Answer(NamedTuple):
    """The prediction for one image: uint8 [H, W] classes, and uint16 [H, W] confidence in steps of 1 / LEVELS (or None)."""

    tag: Hashable
    labels: np.ndarray
    confidence: np.ndarray | None


@dataclass
class _View:
    """One scale and flip of an image while its windows are being scored."""

    height: int
    width: int
    flipped: bool
    crop: tuple[int, int]
    stride: tuple[int, int]
    canvas: Any  # device float32 [bucket height, bucket width, K]
    waiting: int  # windows not yet added


@dataclass
class _Job:
    """One image on its way through the predictor."""

    query: Query
    device: int
    views: list[_View] = field(default_factory=list)
    result: Any = None  # device arrays, once every view is done

    @property
    def ready(self) -> bool:
        return all(view.waiting == 0 for view in self.views)


class _Window(NamedTuple):
    job: _Job
    view: _View
    y: int
    x: int
    pixels: np.ndarray


def pair(value) -> tuple[int, int]:
    """One number for both axes, or (height, width)."""
    height, width = (value, value) if np.isscalar(value) else value
    return int(height), int(width)


class Predictor:
    """Scores images of any size with a model in slide or whole mode; see the module's text.

    module_def, params: `trees.split(model, ())`'s module_def and all arrays in one flat dict; the model has
    `scores(uint8 [B,h,w,3]) -> float32 [B,h,w,K]` and `probabilities(scores)`.
    window, stride: pixels, one number or (height, width); ignored by mode="whole".
    batch: windows per device in one call. scales, flip: views whose probabilities are averaged (more than one view),
    at the size of the image file. patch: windows smaller than `window` are padded to its multiples with what the model
    sees as the mean colour, and the padding is cut off again. mesh: devices to use (default: all of this process).
    """

    def __init__(self, module_def, params: Mapping[str, Any], *, classes: int, window=512, stride=341, mode: str = "slide",
                 batch: int = 1, scales: Iterable[float] = (1.0,), flip: bool = False, confidence: bool = False, patch: int = 16,
                 mesh: Mesh | None = None):
        if mode not in ("slide", "whole"):
            raise UserError(f"mode must be 'slide' or 'whole', not {mode!r}.")
        self.mode, self.window, self.stride = mode, pair(window), pair(stride)
        self.scales, self.flip, self.batch, self.patch, self.classes = tuple(scales), bool(flip), int(batch), int(patch), int(classes)
        self._check()
        self.mesh = local_mesh(mesh)
        self.devices = list(self.mesh.devices.flat)
        self.params = device.place(params, self.mesh)
        self.module_def, self.levels = module_def, LEVELS if confidence else 0
        self._traced = Counter(device.TRACES)
        self._split = NamedSharding(self.mesh, PartitionSpec(self.mesh.axis_names))

    @property
    def traces(self) -> Counter[str]:
        """Compilations since this predictor was made, by program ("score", "add", "finish")."""
        return Counter(device.TRACES) - self._traced

    def _check(self) -> None:
        if self.batch < 1 or not self.scales or min(self.scales) <= 0:
            raise UserError(f"batch must be at least 1 and every scale positive, not batch={self.batch}, scales={self.scales}.")
        if self.mode == "slide" and any(not 0 < s <= w for s, w in zip(self.stride, self.window, strict=True)):
            raise UserError(f"stride must be between 1 and the window, not stride={self.stride} with window={self.window}.")
        if self.mode == "slide" and any(w % self.patch for w in self.window):
            raise UserError(f"window={self.window} must be a multiple of the model's patch size, {self.patch}.")

    def __call__(self, image: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        """uint8 [H, W] classes of one image uint8 [h, w, 3] RGB, at `size` (default: the image's own)."""
        return next(iter(self.stream([Query(None, image, size or image.shape[:2])]))).labels

    def stream(self, queries: Iterable[Query], ahead: int = 2) -> Iterator[Answer]:
        """Answers in the order of the queries; `ahead` finished images per device stay on it while the next are computed."""
        queues: dict[tuple[tuple[int, int], bool], list[deque[_Window]]] = {}
        jobs: deque[_Job] = deque()
        for number, query in enumerate(queries):
            job = self._open(Query(*query), number % len(self.devices))
            jobs.append(job)
            for view in job.views:
                for item in self._cut(job, view):
                    shape = bucket(item.pixels.shape[:2], self.patch)
                    lanes = queues.setdefault((shape, shape != item.pixels.shape[:2]), [deque() for _ in self.devices])
                    lanes[job.device].append(item)
            for kind, lanes in queues.items():
                while min(len(lane) for lane in lanes) >= self.batch:
                    self._run(*kind, lanes)
            if not jobs[0].ready and len(jobs) > 4 * len(self.devices) * max(self.batch, 2):
                self._drain(queues)  # a rare window shape must not hold back everything behind it
            while len(jobs) > ahead * len(self.devices) and jobs[0].ready:
                yield self._answer(jobs.popleft())
        self._drain(queues)
        while jobs:
            yield self._answer(jobs.popleft())

    def _open(self, query: Query, lane: int) -> _Job:
        """A job with an empty canvas for each view."""
        if query.image.ndim != 3 or query.image.shape[2] != 3 or query.image.dtype != np.uint8:
            raise UserError(f"{query.tag}: an image must be uint8 [height, width, 3], not {query.image.dtype} {query.image.shape}.")
        job = _Job(query, lane)
        for scale in self.scales:
            height, width = (max(int(n * scale + 0.5), 1) for n in query.image.shape[:2])
            crop = self.window if self.mode == "slide" else (height, width)
            stride = self.stride if self.mode == "slide" else crop
            count = len(starts(height, crop[0], stride[0])) * len(starts(width, crop[1], stride[1]))
            for flipped in (False, True)[: 1 + self.flip]:
                canvas = device.zeros((*bucket((height, width)), self.classes), self.devices[lane])
                job.views.append(_View(height, width, flipped, crop, stride, canvas, count))
        return job

    def _cut(self, job: _Job, view: _View) -> Iterator[_Window]:
        """The windows of a view; smaller than the crop where the image is."""
        image = job.query.image
        if (view.height, view.width) != image.shape[:2]:
            image = cv2.resize(image, (view.width, view.height), interpolation=cv2.INTER_LINEAR)
        image = image[:, ::-1] if view.flipped else image
        for y in starts(view.height, view.crop[0], view.stride[0]):
            for x in starts(view.width, view.crop[1], view.stride[1]):
                yield _Window(job, view, y, x, image[y : y + view.crop[0], x : x + view.crop[1]])

    def _run(self, shape: tuple[int, int], padded: bool, lanes: list[deque[_Window]]) -> None:
        """Score one batch (short lanes are filled up with zeros) and add the scores to the canvases."""
        taken = [[lane.popleft() for _ in range(min(len(lane), self.batch))] for lane in lanes]
        images = np.zeros((len(lanes) * self.batch, *shape, 3), np.uint8)
        sizes = np.full((len(images), 2), shape, np.int32)
        for lane, items in enumerate(taken):
            for row, item in enumerate(items, lane * self.batch):
                height, width = item.pixels.shape[:2]
                images[row, :height, :width] = item.pixels
                sizes[row] = height, width
        scores = device.score(self.module_def, self.params, *jax.device_put((images, sizes if padded else None), self._split))
        if scores.shape[-1] != self.classes:
            raise UserError(f"the model scores {scores.shape[-1]} classes, the data set has {self.classes}.")
        for shard in scores.addressable_shards:
            lane = (shard.index[0].start or 0) // self.batch
            for i, item in enumerate(taken[lane]):
                where = jax.device_put(np.array([i, item.y, item.x], np.int32), shard.device)
                item.view.canvas = device.add(item.view.canvas, shard.data, where)
                item.view.waiting -= 1
                if item.job.ready:
                    self._close(item.job)

    def _drain(self, queues: Mapping[Any, list[deque[_Window]]]) -> None:
        for kind, lanes in queues.items():
            while any(lanes):
                self._run(*kind, lanes)

    def _close(self, job: _Job) -> None:
        """Start the last step of an image on its device: mean over windows, resize, mean over views, argmax."""
        size = bucket(job.query.size)
        plans = [_plan(view, job.query.size, size) for view in job.views]
        same = all((v.height, v.width) == tuple(job.query.size) and not v.flipped for v in job.views)
        job.result = self._finish(job, same, jax.device_put(plans, self.devices[job.device]))
        for array in jax.tree.leaves(job.result):
            array.copy_to_host_async()
        job.views = []

    def _finish(self, job: _Job, same: bool, plans: Any) -> Any:
        """Dispatch the last step; `rein_jax.predict` asks for more maps here."""
        needed = self.levels > 0 or len(job.views) > 1
        params = device.on(self.params, self.devices[job.device]) if needed else None
        return device.finish(self.module_def, self.levels, same, params, [view.canvas for view in job.views], plans)

    def _answer(self, job: _Job) -> Answer:
        height, width = job.query.size
        labels, confidence = (None if a is None else np.asarray(a)[:height, :width] for a in job.result)
        return Answer(job.query.tag, labels, confidence)


def _plan(view: _View, size: tuple[int, int], padded: tuple[int, int]) -> dict[str, Any]:
    """The arrays that the last step needs for one view: window counts and resizing taps, all of bucketed length."""
    height, width = bucket((view.height, view.width))
    rows = np.ones(height, np.float32)
    columns = np.ones(width, np.float32)
    rows[: view.height] = coverage(view.height, view.crop[0], view.stride[0])
    columns[: view.width] = coverage(view.width, view.crop[1], view.stride[1])
    y, x = taps(view.height, size[0], padded[0]), taps(view.width, size[1], padded[1], view.flipped)
    return {"rows": rows, "columns": columns, "y": (y.low, y.high, y.weight), "x": (x.low, x.high, x.weight)}


def local_mesh(mesh: Mesh | None) -> Mesh:
    """The mesh of this process's devices: evaluation is spread over processes by images, not by windows."""
    here = jax.process_index()
    chosen = jax.local_devices() if mesh is None else [d for d in mesh.devices.flat if d.process_index == here]
    return Mesh(np.array(chosen), ("data",))


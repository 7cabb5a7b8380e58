"""The evaluation of one domain by this process: load, predict, count, keep panels, go on after an interruption."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from data_pipelines import dataset
from data_pipelines.atomic import write_atomically
from data_pipelines.errors import DataError
from data_pipelines.files import shown
from data_pipelines.source import version
from rein_jax import distributed
from rein_jax.errors import UserError
from rein_jax.evaluation.answers import TooLittleMemory, answers
from rein_jax.evaluation.eval_model import EvalModel
from rein_jax.evaluation.loading import Loaded, Loader
from rein_jax.evaluation.options import Options
from rein_jax.evaluation.predictions import write_prediction
from rein_jax.evaluation.windows import Query
from rein_jax.metrics import boundary, calibration, confusion
from rein_jax.metrics.accumulator import MetricAccumulator, gather_bytes
from rein_jax.metrics.bootstrap import mean_ious
from rein_jax.metrics.calibration import LEVELS
from rein_jax.reporting import results
from rein_jax.reporting.gallery import Gallery


class DomainEvaluator:
    """One source under one name. `predictor` has `stream(queries) -> answers` (windows.Predictor or predictions.Files)."""

    def __init__(self, name: str, source: Any, predictor: Any, chosen: EvalModel, options: Options, out: Path | None):
        self.name, self.source, self.predictor, self.options, self.out = name, source, predictor, options, out
        self.classes = len(chosen.classes)
        key = {"model": chosen.facts["identity"], "computes_in": chosen.facts.get("computes_in"), "protocol": options.describe(),
               "data": version(source), "images": len(source), "classes": chosen.classes.names}
        self.accumulator = MetricAccumulator(json.dumps(key, sort_keys=True), len(source), self.classes, options.measures)
        wanted = out is not None and options.panels > 0
        self.gallery = Gallery(out / "panels" / results.safe(name), options.panels, chosen.classes.palette) if wanted else None
        self.measuring = 0.0

    def run(self, resume: bool) -> tuple[MetricAccumulator, dict[str, Any]]:
        """Measure what is not measured yet; (accumulator over all processes, further facts for results.json)."""
        left_out = dict(getattr(self.source, "problems", {}))
        share = range(jax.process_index(), len(self.source), jax.process_count())
        if self.out is not None:
            self._restore(share if resume else range(0))
        wanted = set(self.accumulator.open_images())
        todo = [i for i in share if i in wanted]
        if len(todo) < len(share) and jax.process_index() == 0:
            print(f"{self.name}: {len(share) - len(todo)} of {len(share)} images were measured before with the same model, protocol and "
                  "files; their counts are reused (--no-resume measures anew).", file=sys.stderr)
        begin = time.perf_counter()
        loader = Loader(self.source, todo, self.options.protocol, self.options.threads, ahead=2 * self.options.threads)
        try:
            self._measure_all(loader, len(todo))
        except BaseException:  # whatever ends it, what was counted need not be counted again
            if self.out is not None and self.accumulator.done.any():
                with contextlib.suppress(OSError):
                    self._checkpoint()
            raise
        seconds = time.perf_counter() - begin
        for data in gather_bytes(self.accumulator.to_bytes()) if jax.process_count() > 1 else ():
            self.accumulator.merge(MetricAccumulator.from_bytes(data))
        if not self.accumulator.done.any():
            why = next(iter(self.accumulator.skipped.values()), "no reason is known")
            raise UserError(f"{self.name}: none of the {self.accumulator.images} images could be measured; the first: {why}")
        if self.out is not None and jax.process_index() == 0:
            self._save(results.image_file(self.out, self.name))
        distributed.barrier(f"{self.name} is written")  # nobody starts another evaluation in a folder that is being tidied
        return self.accumulator, self._facts(left_out, todo, seconds, loader)

    def _facts(self, left_out: dict[str, str], todo: list[int], seconds: float, loader: Loader) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "dataset": self.source.name, "split": getattr(self.source, "split", ""), "fingerprint": self.source.fingerprint(),
            "resolution": self.options.protocol.describe(self.source.name), "published": published(self.source),
        }
        if left_out:
            facts["left_out"] = left_out
        if todo:
            facts["speed"] = {"images": len(todo), "seconds": seconds, "images_per_second": len(todo) / seconds,
                              "data_wait": loader.waited / seconds, "metric": self.measuring / seconds}
        return facts

    def _restore(self, share: range) -> None:
        """Take over what earlier runs under the same key counted. Skipped images are tried again: they may be repaired by now."""
        path = results.image_file(self.out, self.name)
        for file in [path, *sorted(path.parent.glob(f"{path.stem}.part*.npz"))]:
            try:
                old = MetricAccumulator.from_bytes(file.read_bytes()) if file.exists() else None
            except ValueError as error:
                raise UserError(f"{file} is damaged ({error}); delete it and run the evaluation again.") from None
            if old is not None and old.key == self.accumulator.key and set(old.measures) >= set(self.accumulator.measures):
                old.skipped = {}
                self.accumulator.merge(old, share)
        if self.gallery is not None:
            self.gallery.restore(self._scores(), jax.process_index(), jax.process_count())

    def _scores(self) -> dict[int, float]:
        """The score of every image that is done."""
        return {int(i): score_of(self.accumulator.matrices[i]) for i in np.flatnonzero(self.accumulator.done)}

    def _save(self, path: Path) -> None:
        """Process 0, when all have finished: the counts as one file, and of everybody's panels the best and worst."""
        write_atomically(path, self.accumulator.to_bytes())
        for part in path.parent.glob(f"{path.stem}.part*.npz"):
            part.unlink(missing_ok=True)
        if self.gallery is not None and jax.process_count() > 1:
            self.gallery.merge(self._scores())

    def _measure_all(self, loader: Loader, total: int) -> None:
        """Stream images through the predictor; counting runs in threads beside it."""
        loaded: dict[int, Loaded] = {}

        def queries():
            for item in loader:
                if item.problem is None:
                    loaded[item.index] = item
                    yield Query(item.index, item.image, item.label.shape, item.name)
                else:
                    self._skip(item, item.problem)
                    bar.update()

        pending: deque[tuple[Loaded, Future]] = deque()
        running, since = np.zeros((self.classes, self.classes), np.int64), 0
        pause = 0.1 if sys.stderr.isatty() else 30.0  # seconds between two states of the bar; a log file keeps them all
        bar = tqdm(total=total, desc=shown(self.name), unit="img", mininterval=pause, disable=not self.options.progress or not total)
        with bar, ThreadPoolExecutor(2, thread_name_prefix="rein-metric") as pool:
            for query, answer in answers(self.predictor, queries()):
                item = loaded.pop(query.tag)
                if isinstance(answer, TooLittleMemory):
                    self._skip(item, str(answer))
                    bar.update()
                    continue
                pending.append((item, pool.submit(self._measure, item, answer.labels, answer.confidence)))
                while pending and (len(pending) > 8 or pending[0][1].done()):
                    running, since = self._record(*pending.popleft(), running, bar), since + 1
                if self.out is not None and since >= self.options.save_every:
                    self._checkpoint()
                    since = 0
            while pending:
                running = self._record(*pending.popleft(), running, bar)

    def _skip(self, item: Loaded, why: str) -> None:
        """Leave an image out of the numbers, by name."""
        self.accumulator.skip(item.index, why if item.name in why else f"{item.name}: {why}")

    def _checkpoint(self) -> None:
        """Keep what is counted so far for the next run."""
        path = results.image_file(self.out, self.name)
        write_atomically(path.with_name(f"{path.stem}.part{jax.process_index()}.npz"), self.accumulator.to_bytes())

    def _record(self, item: Loaded, future: Future, running: np.ndarray, bar: tqdm) -> np.ndarray:
        """Enter a finished image; the matrix over the images of this run so far."""
        counts, seconds, labels = future.result()
        self.measuring += seconds
        self.accumulator.put(item.index, item.name, item.condition, counts)
        if self.gallery is not None:
            self.gallery.offer(item.index, score_of(counts["matrix"]), item.image, item.label, labels)
        running = running + counts["matrix"]
        bar.update()
        bar.set_postfix_str(f"mIoU {100 * mean_ious(running):.2f}", refresh=False)
        return running

    def _measure(self, item: Loaded, labels: np.ndarray, confidence: np.ndarray | None):
        """(counts, seconds, prediction) of one image; runs in a thread."""
        begin = time.perf_counter()
        counts = {"matrix": confusion.confusion(item.label, labels, self.classes, item.name)}
        if "boundary" in self.options.measures:
            counts["boundary"] = boundary.counts(item.label, labels, self.classes)
        if "calibration" in self.options.measures:
            counts["calibration"] = calibration.histogram(confidence, item.label, labels, self.classes, LEVELS)
        seconds = time.perf_counter() - begin
        if self.options.save_predictions and self.out is not None:
            write_prediction(self.out / "predictions" / results.safe(self.name), item.name, labels)
        return counts, seconds, labels


def score_of(matrix: np.ndarray) -> float:
    """mIoU of one image; NaN if it has no labelled pixel."""
    return float(mean_ious(matrix.astype(np.int64))) if matrix.any() else float("nan")


def published(source: Any) -> int | None:
    """How many images the published split has, None where that is unknown."""
    facts = getattr(getattr(source, "source", source), "facts", None)
    try:
        spec = dataset(source.name)
        options = {key: value for key, value in (facts.options if facts else {}).items() if key in spec.choices}
        return spec.count(source.split, **options)
    except (DataError, AttributeError):
        return None

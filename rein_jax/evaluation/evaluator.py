"""`rein_jax.evaluate`: a model on any number of domains, exact, resumable, and with its protocol written beside the numbers."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from data_pipelines.protocols import Protocol
from data_pipelines.protocols import protocol as find_protocol
from rein_jax.errors import UserError
from rein_jax.evaluation import boundary as boundaries
from rein_jax.evaluation import calibration as calibrations
from rein_jax.evaluation import confusion, results
from rein_jax.evaluation.bootstrap import mean_ious
from rein_jax.evaluation.gallery import Gallery
from rein_jax.evaluation.loading import Loaded, Loader
from rein_jax.evaluation.predictions import write_prediction
from rein_jax.evaluation.subject import Subject, check_classes, subject
from rein_jax.evaluation.tally import Tally, gather_bytes, write_atomically
from rein_jax.evaluation.windows import LEVELS, Predictor, Query, pair


@dataclass(frozen=True)
class Options:
    """How to measure; `evaluate` describes each."""

    protocol: Protocol
    mode: str
    crop: tuple[int, int]
    stride: tuple[int, int]
    batch: int
    scales: tuple[float, ...]
    flip: bool
    measures: tuple[str, ...]
    save_predictions: bool
    panels: int
    save_every: int
    threads: int
    progress: bool

    def describe(self) -> dict[str, Any]:
        """The protocol as results.json states it."""
        window = f"slide {_size(self.crop)} stride {_size(self.stride)}" if self.mode == "slide" else "whole image"
        views = f"scales {', '.join(f'{s:g}' for s in self.scales)}" if self.scales != (1.0,) else "single scale"
        text = f"{self.protocol.name}, {window}, {views}, {'with' if self.flip else 'no'} flip"
        slide = {"crop": list(self.crop), "stride": list(self.stride)} if self.mode == "slide" else {}
        return {"name": self.protocol.name, "mode": self.mode, **slide, "scales": list(self.scales), "flip": self.flip, "text": text}


def evaluate(
    model: Any,
    domains: Mapping[str, Any] | Sequence[Any],
    *,
    protocol: str | Protocol = "full",
    mode: str = "slide",
    crop: int | tuple[int, int] = 512,
    stride: int | tuple[int, int] = 341,
    batch: int = 4,
    scales: Iterable[float] = (1.0,),
    flip: bool = False,
    boundary: bool = False,
    calibration: bool = True,
    out: str | Path | None = None,
    resume: bool = True,
    save_predictions: bool = False,
    panels: int = 6,
    save_every: int = 50,
    threads: int = 4,
    mesh: Any = None,
    progress: bool = True,
    facts: Mapping[str, Any] | None = None,
) -> results.Results:
    """Measure a model on data sets it may never have seen; every number comes with the protocol it was measured by.

    model: run folder or model.safetensors, a Segmenter, or (skeleton, params). domains: {name: source}, or sources.
    protocol: resolution, "official-512", "official-1024", "full" or "fit-WxH" (data_pipelines.protocols).
    mode: "slide" over windows of `crop` pixels every `stride`, or "whole". batch: windows per device in one call.
    scales, flip: average the probabilities of several views. boundary, calibration: measure these too.
    out: folder for results.json, per-image counts, panels of the best and worst images (`panels` each), and with
    `save_predictions` the predicted train ids as PNG. With `resume` images counted there under the same model, protocol
    and data are not computed again; counts are written every `save_every` images.
    Images that cannot be read are named in the result and left out of the numbers, which then say so.
    Over several processes each takes its share of the images; counts are added exactly, every process returns the sum.
    """
    options = Options(
        find_protocol(protocol.replace("_", "-") if isinstance(protocol, str) else protocol), mode, pair(crop), pair(stride),
        int(batch), tuple(float(s) for s in scales), bool(flip),
        (("boundary",) if boundary else ()) + (("calibration",) if calibration else ()),
        save_predictions, panels, max(int(save_every), 1), threads, progress and jax.process_index() == 0,
    )
    chosen, domains = subject(model, facts), named(domains)
    for source in domains.values():
        check_classes(chosen.classes, source)
    predictor = Predictor(
        chosen.skeleton, chosen.params, classes=len(chosen.classes), window=crop, stride=stride, mode=mode, batch=batch,
        scales=options.scales, flip=flip, confidence=calibration, patch=chosen.patch, mesh=mesh,
    )
    out = None if out is None else Path(out)
    tallies, summaries = {}, {}
    for name, source in domains.items():
        tallies[name], facts_of = _Domain(name, source, predictor, chosen, options, out).run(resume)
        summaries[name] = results.summarise(tallies[name], chosen.classes.names, facts_of)
    found = results.Results(document(chosen, options, summaries), tallies)
    if out is not None and jax.process_index() == 0:
        found.save(out)
    return found


def document(chosen: Subject, options: Options, summaries: Mapping[str, Any]) -> dict[str, Any]:
    """The content of results.json."""
    return {
        "format": results.FORMAT, "created": results.now(), "versions": results.versions(), "model": chosen.facts,
        "protocol": options.describe(), "classes": list(chosen.classes.names),
        "palette": [list(map(int, colour)) for colour in chosen.classes.palette],
        "domains": summaries, "mean": confusion.mean_over_domains(summaries),
    }


def named(domains: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
    """{name: source}; sources without a name of their own choice go by their `domain`, numbered when two are alike."""
    if isinstance(domains, Mapping):
        found = dict(domains)
    else:
        found = {}
        for source in domains:
            name, k = source.domain, 2
            while name in found:
                name, k = f"{source.domain}-{k}", k + 1
            found[name] = source
    if not found:
        raise UserError("There is no domain to evaluate on; name at least one data set.")
    for name, source in found.items():
        if not len(source):
            raise UserError(f"{name} holds no images; check its folder and split.")
        if not getattr(source, "has_labels", True):
            raise UserError(f"{name} has no labels to compare with; use `rein predict` for images without labels.")
    return found


class _Domain:
    """The evaluation of one domain by this process."""

    def __init__(self, name: str, source: Any, predictor: Predictor, chosen: Subject, options: Options, out: Path | None):
        self.name, self.source, self.predictor, self.options, self.out = name, source, predictor, options, out
        self.classes = len(chosen.classes)
        key = {"model": chosen.facts["identity"], "protocol": options.describe(), "data": source.fingerprint(),
               "images": len(source), "classes": chosen.classes.names}
        self.tally = Tally(json.dumps(key, sort_keys=True), len(source), self.classes, options.measures)
        self.gallery = Gallery(out / "panels" / results.safe(name), options.panels, chosen.classes.palette) if out else None
        self.measuring = 0.0

    def run(self, resume: bool) -> tuple[Tally, dict[str, Any]]:
        """Measure what is not measured yet; (tally over all processes, further facts for results.json)."""
        left_out = dict(getattr(self.source, "problems", {}))
        share = range(jax.process_index(), len(self.source), jax.process_count())
        if self.out is not None:
            self._restore(share if resume else range(0))
        wanted = set(self.tally.open_images())
        todo = [i for i in share if i in wanted]
        begin = time.perf_counter()
        loader = Loader(self.source, todo, self.options.protocol, self.options.threads, ahead=2 * self.options.threads)
        self._measure_all(loader, len(todo))
        seconds = time.perf_counter() - begin
        for data in gather_bytes(self.tally.to_bytes()):
            self.tally.merge(Tally.from_bytes(data))
        self._refuse_nothing()
        if self.out is not None and jax.process_index() == 0:
            self._save(results.image_file(self.out, self.name))
        return self.tally, self._facts(left_out, todo, seconds, loader)

    def _facts(self, left_out: dict[str, str], todo: list[int], seconds: float, loader: Loader) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "dataset": self.source.name, "split": getattr(self.source, "split", ""), "fingerprint": self.source.fingerprint(),
            "resolution": self.options.protocol.describe(self.source.name),
        }
        if left_out:
            facts["left_out"] = left_out
        if todo:
            facts["speed"] = {"images": len(todo), "seconds": seconds, "images_per_second": len(todo) / seconds,
                              "data_wait": loader.waited / seconds, "metric": self.measuring / seconds}
        return facts

    def _refuse_nothing(self) -> None:
        if not self.tally.done.any():
            why = next(iter(self.tally.skipped.values()), "no reason known")
            raise UserError(f"{self.name}: none of the {self.tally.images} images could be measured; the first: {why}")

    def _restore(self, share: range) -> None:
        """Take over what earlier runs under the same key counted. Skipped images are tried again: they may be mended."""
        folder = results.image_file(self.out, self.name).parent
        for path in sorted(folder.glob(f"{results.safe(self.name)}.npz")) + sorted(folder.glob(f"{results.safe(self.name)}.part*.npz")):
            try:
                old = Tally.from_bytes(path.read_bytes())
            except (ValueError, KeyError, OSError, EOFError) as error:
                raise UserError(f"{path} is damaged ({error}); delete it and run the evaluation again.") from None
            if old.key == self.tally.key and set(old.measures) >= set(self.tally.measures):
                old.skipped = {}
                self.tally.merge(old, share)
        done = np.flatnonzero(self.tally.done)
        self.gallery.restore({int(i): float(mean_ious(self.tally.matrices[i].astype(np.int64))) for i in done})

    def _save(self, path: Path) -> None:
        write_atomically(path, self.tally.to_bytes())
        for part in path.parent.glob(f"{results.safe(self.name)}.part*.npz"):
            part.unlink(missing_ok=True)

    def _measure_all(self, loader: Loader, total: int) -> None:
        """Stream images through the predictor; counting runs in threads beside it."""
        loaded: dict[int, Loaded] = {}

        def queries():
            for item in loader:
                if item.problem is None:
                    loaded[item.index] = item
                    yield Query(item.index, item.image, item.label.shape)
                else:
                    self.tally.skip(item.index, f"{item.name}: {item.problem}" if item.name not in item.problem else item.problem)
                    bar.update()

        pending: deque[tuple[Loaded, Future]] = deque()
        running, since = np.zeros((self.classes, self.classes), np.int64), 0
        with tqdm(total=total, desc=self.name, unit="img", disable=not self.options.progress) as bar, ThreadPoolExecutor(2) as pool:
            for answer in self.predictor.stream(queries()):
                item = loaded.pop(answer.tag)
                pending.append((item, pool.submit(self._measure, item, answer.labels, answer.confidence)))
                while pending and (len(pending) > 8 or pending[0][1].done()):
                    running, since = self._record(*pending.popleft(), running, bar), since + 1
                if self.out is not None and since >= self.options.save_every:
                    self._checkpoint()
                    since = 0
            while pending:
                running = self._record(*pending.popleft(), running, bar)

    def _checkpoint(self) -> None:
        path = results.image_file(self.out, self.name)
        write_atomically(path.with_name(f"{path.stem}.part{jax.process_index()}.npz"), self.tally.to_bytes())

    def _record(self, item: Loaded, future: Future, running: np.ndarray, bar: tqdm) -> np.ndarray:
        counts, score, seconds, labels = future.result()
        self.measuring += seconds
        self.tally.put(item.index, item.name, item.condition, counts)
        if self.gallery is not None and self.options.panels:
            self.gallery.offer(item.index, score, item.image, item.label, labels)
        running = running + counts["matrix"]
        bar.update()
        bar.set_postfix_str(f"mIoU {100 * mean_ious(running):.2f}", refresh=False)
        return running

    def _measure(self, item: Loaded, labels: np.ndarray, confidence: np.ndarray | None):
        """(counts, mIoU of the image, seconds, prediction); runs in a thread."""
        begin = time.perf_counter()
        counts = {"matrix": confusion.confusion(item.label, labels, self.classes, item.name)}
        if "boundary" in self.options.measures:
            counts["boundary"] = boundaries.counts(item.label, labels, self.classes)
        if "calibration" in self.options.measures:
            counts["calibration"] = calibrations.histogram(confidence, item.label, labels, self.classes, LEVELS)
        score = float(mean_ious(counts["matrix"])) if counts["matrix"].any() else float("nan")
        seconds = time.perf_counter() - begin
        if self.options.save_predictions and self.out is not None:
            write_prediction(self.out / "predictions" / results.safe(self.name), item.name, labels)
        return counts, score, seconds, labels


def _size(size: tuple[int, int]) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[1]}x{size[0]}"

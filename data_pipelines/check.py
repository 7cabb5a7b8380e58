"""Looks at every pair of a data set and says whether one can train on it; the work behind `rein data check`."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

import data_pipelines
from data_pipelines.checkreport import Report, SplitReport
from data_pipelines.decoders import IndexLabels
from data_pipelines.depth import said
from data_pipelines.errors import DataError
from data_pipelines.files import NothingThere
from data_pipelines.images import orientation, used_bits
from data_pipelines.labels import VOID, ranges
from data_pipelines.layout import FileDataset
from data_pipelines.maskfaults import between_classes, interpolated, looks_interpolated
from data_pipelines.sheet import sheet
from data_pipelines.source import Source

PICTURES = 6


class _Recorder:
    """Wraps a label decoder and counts the values as they are stored."""

    def __init__(self, decode: Any):
        self.decode, self.values, self._lock = decode, Counter(), threading.Lock()

    def __call__(self, data: bytes, file: str) -> np.ndarray:
        if not hasattr(self.decode, "raw"):  # colours are no values
            return self.decode(data, file)
        raw = self.decode.raw(data, file)
        if raw.dtype == np.uint8:
            counts = np.bincount(raw.ravel(), minlength=256)
            values = np.flatnonzero(counts)
            counts = counts[values]
        else:
            values, counts = np.unique(raw, return_counts=True)
        with self._lock:
            self.values.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        return self.decode.ids(raw, file)


def check(
    name: str,
    source: str | os.PathLike | None,
    *,
    splits: tuple[str, ...] = (),
    jobs: int | None = None,
    sample: int | None = None,
    partial: bool = False,
    watch: Callable[[Iterable, int, str], Iterable] = lambda items, total, title: items,
    **options: Any,
) -> tuple[Report, np.ndarray | None]:
    """Checks the splits of a data set (default: all that are there) and returns the report and the sheet of six overlays.

    `sample` looks at that many pairs a split, evenly spaced; `partial` accepts fewer pairs than were published.
    `watch(items, total, title)` may wrap the loop to show progress. With the option policy="skip" pairs that do not fit are warnings:
    training with it leaves them out. Raises DataError if there is nothing to check.
    """
    spec, skip = data_pipelines.dataset(name), options.get("policy") == "skip"
    opened, absent = _open(name, spec, source, splits, options)
    made = {split: _check_split(spec, one, jobs, sample, watch, options) for split, one in opened.items()}
    reasons = [reason for split, (report, _) in made.items() for reason in _reasons(split, report, partial, skip)]
    shown = next((s for s in opened.values() if _labelled(s)), next(iter(opened.values())))
    picture = _sheet(shown, made[shown.split][1])
    reports = {split: report for split, (report, _) in made.items()}
    return Report(name, str(source), not reasons, reasons, absent, reports), picture


def _open(name: str, spec: Any, source: Any, splits: tuple[str, ...], options: dict) -> tuple[dict[str, Source], list[str]]:
    opened: dict[str, Source] = {}
    absent: list[str] = []
    problem: DataError | None = None
    for split in splits or getattr(spec, "basic", ("train", "val", "test")):
        try:
            opened[split] = data_pipelines.open_source(name, split=split, source=source, **{"policy": "skip", **options})
        except NothingThere as error:
            absent.append(split)
            problem = error
    if problem is not None and (splits or not opened):
        raise problem
    return opened, absent


def _check_split(spec: Any, source: Source, jobs, sample, watch, options) -> tuple[SplitReport, list[int]]:
    step = 1 if not sample else max(1, len(source) // sample)
    indices = range(0, len(source), step)
    report, reading, recorder = _begin(spec, source, options)
    report.checked = len(indices)
    pixels, images, sizes, depths, good = np.zeros(256, np.int64), np.zeros(256, np.int64), Counter(), Counter(), []
    edges = np.zeros(2, np.int64)
    with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        for index, (element, facts, problem) in watch(_in_order(pool, reading, indices), len(indices), source.split):
            if problem is not None:
                report.problems[source.entry_name(index)] = problem
                continue
            counts = np.bincount(element["label"].ravel(), minlength=256)
            _warn(report, element["name"], counts, facts, _labelled(source))
            depths[facts[1]] += facts[1] is not None
            edges += between_classes(element["label"])
            pixels, images = pixels + counts, images + (counts > 0)
            sizes[f"{element['image'].shape[1]}x{element['image'].shape[0]}"] += 1
            good.append(index)
    report.fitting = len(good)
    report.warnings |= getattr(reading, "problems", {})  # labels that were resized
    report.sizes = dict(sizes.most_common())
    report.label_values = dict(sorted(recorder.values.items()))
    if _labelled(source):
        report.pixels = {name: int(pixels[k]) for k, name in enumerate(source.classes.names)}
        report.images_with = {name: int(images[k]) for k, name in enumerate(source.classes.names)}
        report.void_pixels = int(pixels[VOID])
        report.stored = _stored(source)
    _odd_sizes(spec, report)
    _mixed_depths(report, +depths)
    occur = [name for name, count in report.pixels.items() if count]
    if len(occur) == 1 and source.split != "test":
        report.warnings["classes"] = f"{occur[0]!r} is the only class that occurs; check what the values of the masks mean."
    if isinstance(recorder.decode, IndexLabels) and looks_interpolated(edges):
        report.warnings["edges"] = interpolated(edges)
    return report, good


def _stored(source: Any) -> dict[str, str]:
    """What means each class in the label files: values or colours; {} where labels are made on the fly."""
    decode, out = getattr(getattr(source, "facts", None), "decode", None), {}
    rows = [(value, train) for value, train in decode.ids.ids.items()] if hasattr(decode, "ids") else [
        (tuple(colour), train) for *colour, train in getattr(decode, "colours", ())]  # fmt: skip
    for k, name in enumerate(source.classes.names):
        mine = [what for what, train in rows if train == k]
        if mine:
            numbers = isinstance(mine[0], int)
            out[name] = f"value {ranges(sorted(mine))}" if numbers else f"colour {' '.join(map(str, mine[0]))}"
    return out


def _labelled(source: Any) -> bool:
    return getattr(source, "has_labels", True)


def _begin(spec: Any, source: Any, options: dict) -> tuple[SplitReport, Any, _Recorder]:
    """An empty report, the source to read from, and the recorder of its label values."""
    if not isinstance(source, Source):  # made on the fly: no files that could be missing
        return SplitReport("made on the fly", len(source), None, 0), source, _Recorder(None)
    published = spec.count(source.split, **options) if isinstance(spec, FileDataset) else None
    report = SplitReport(source.found, len(source) + len(source.problems), published, 0, problems=dict(source.problems))
    report.warnings |= {label: f"{label} is a label without an image." for label in source.unused}
    if source.note:
        report.warnings["masks"] = source.note
    recorder = _Recorder(source.facts.decode)
    return report, source.with_facts(replace(source.facts, decode=recorder)), recorder


def _in_order(pool: ThreadPoolExecutor, source: Source, indices: range) -> Iterator[tuple[int, tuple]]:
    """Looks at elements in threads, a bounded number ahead so that memory stays small."""
    ahead = 32
    waiting = [pool.submit(_look, source, index) for index in indices[:ahead]]
    for at, index in enumerate(indices):
        result = waiting[at % ahead].result()
        if at + ahead < len(indices):
            waiting[at % ahead] = pool.submit(_look, source, indices[at + ahead])
        yield index, result


def _look(source: Source, index: int) -> tuple[dict | None, tuple[bool, int | None], str | None]:
    """(the element, whether EXIF turns its image and how many bits of 16 it uses, why it does not fit)."""
    try:
        if not isinstance(source, Source):
            return source[index], (False, None), None
        data, element = source.encoded(index).image, source.read(index)
        return element, (orientation(data) != 1, used_bits(data, element["name"])), None
    except DataError as error:
        return None, (False, None), str(error)


def _warn(report: SplitReport, name: str, counts: np.ndarray, facts: tuple[bool, int | None], labelled: bool) -> None:
    turned, bits = facts
    texts = []
    if turned:
        texts.append(f"{name} carries an EXIF mark that turns or mirrors it; see in the sheet whether the label fits.")
    if bits is not None:
        texts.append(said(bits, name))
    if labelled and counts[VOID] == counts.sum():
        texts.append(f"{name} has a label that is void everywhere; nothing can be learned from it.")
    if texts:
        report.warnings[name] = " ".join(texts)


def _mixed_depths(report: SplitReport, depths: Counter) -> None:
    if len(depths) > 1:
        listed = ", ".join(f"{bits} ({n} images)" for bits, n in sorted(depths.items()))
        report.warnings["depths"] = f"Images use different numbers of bits and are scaled each by its own: {listed}; save all with 8 bits."


def _odd_sizes(spec: Any, report: SplitReport) -> None:
    size = getattr(spec, "size", None)
    expected = f"{size[0]}x{size[1]}" if size else None
    odd = {found: n for found, n in report.sizes.items() if expected and found != expected}
    if odd:
        listed = ", ".join(f"{found} ({n})" for found, n in list(odd.items())[:5])
        report.warnings["sizes"] = f"Images of other sizes than the published {expected}: {listed}."


def _reasons(split: str, report: SplitReport, partial: bool, skip: bool) -> list[str]:
    reasons = []
    first = next(iter(report.problems.values()), "")
    if skip:
        report.warnings, report.problems = {**report.problems, **report.warnings}, {}
    if report.problems:
        reasons.append(f"{split}: {len(report.problems)} files do not fit (policy=skip leaves them out); the first: {first}")
    if report.published is not None and report.count != report.published and not (partial and report.count < report.published):
        reasons.append(f"{split}: {report.count} images instead of the published {report.published}.")
    if not report.fitting:
        reasons.append(f"{split}: no pair can be read" + (f"; the first: {first}" if first else "."))
    elif split in ("train", "all") and report.void_pixels and not any(report.pixels.values()):
        reasons.append(f"{split}: every label is void everywhere, so there is nothing to learn; check what `ignore` and the list mean.")
    return reasons


def _sheet(source: Source, good: list[int]) -> np.ndarray | None:
    if not good:
        return None
    chosen = [good[k * len(good) // PICTURES] for k in range(PICTURES)] if len(good) >= PICTURES else good
    return sheet([source[index] for index in chosen], source.classes)

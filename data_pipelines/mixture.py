"""Sources -> batches with Grain: mixing, shuffling, host shards, threads or worker processes, exact resume.

Element number g of a run is a function of (seed, g) alone: which source and which of its images (a reshuffle each epoch), and
the random numbers of its transform. Batch t holds elements t*batch ... (t+1)*batch - 1 whatever the number of hosts, workers
and threads, so a run goes on from its step alone and no iterator state is stored.
"""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import grain
import numpy as np

from data_pipelines import loader_errors
from data_pipelines.errors import DataError
from data_pipelines.system_errors import advice, patiently, system_error
from data_pipelines.transforms import TrainTransform

ENDLESS = 2**48  # elements in a run; Grain's ranges need a number
PAUSES = (0.5, 2.0)  # seconds before an image that the system did not give is asked for again
READY = 4  # batches kept ready, at least
Transform = Callable[[np.ndarray, np.ndarray, np.random.Generator], dict[str, np.ndarray]]


def train_batches(
    sources: Sequence[Any],
    weights: Sequence[float] | None = None,
    transform: Transform | None = None,
    *,
    batch: int,
    seed: int = 0,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 8,
    workers: int = 0,
    prefetch: int | None = None,
    names: bool = True,
) -> Batches:
    """Endless training batches of this process: {"image", "label", "size", "index", "name"} (ARCHITECTURE.md, data contract).

    `batch` counts the images of all processes; process p gets rows p*batch/n ... (p+1)*batch/n - 1 of each global batch.
    `weights=None` joins the sources (every image once an epoch); weights mix them in exactly these shares, each source
    reshuffled when it is through. `start_step=k` begins with batch k, whatever the settings of threads, workers and hosts.
    `workers=0` reads in `threads` threads of this process; otherwise in that many processes of `threads` threads each, which
    needs a main module that can be imported (`if __name__ == "__main__":`). `prefetch` counts batches, ready or in the making:
    so many are held in memory, and no more threads than that are busy (default: as many as threads, at least 4). Each worker
    holds so many, and 4 (or `prefetch`, where it is given) finished ones in shared memory. `names=False` leaves out "name".
    """
    _check(sources, batch, process_index, process_count, start_step)
    transform = TrainTransform() if transform is None else transform
    rows = batch // process_count
    element = Element(tuple(sources), plan(sources, weights, seed), transform, seed, batch, rows, process_index)
    dataset = grain.MapDataset.range(ENDLESS // batch * rows).map(element)
    dataset = dataset.batch(rows, drop_remainder=True, batch_fn=collate)[start_step:]
    ahead = max(READY, threads) if prefetch is None else max(prefetch, 1)
    iterable = dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead))
    if workers:
        _allow_processes()
        finished = READY if prefetch is None else ahead
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=finished)
        iterable = iterable.mp_prefetch(options, worker_init_fn=_start_worker)
    try:
        return Batches(iter(iterable), copy=workers > 0, names=names)
    except OSError as error:  # Grain makes the workers' shared memory at once
        raise loader_errors.explained(error) from error


class Batches:
    """Iterator over batches that stops its threads and processes when closed, dropped, or at the end of the program."""

    def __init__(self, iterator: Any, copy: bool, names: bool = True):
        self._running, self._copy, self._names = [iterator], copy, names
        self.close = weakref.finalize(self, _stop, self._running)  # runs at exit too, while Grain's modules still stand

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> dict[str, Any]:
        if not self._running:
            raise StopIteration
        try:
            batch = next(self._running[0])
        except (OSError, RuntimeError) as error:  # `read` has explained those of images
            told = loader_errors.explained(error) if self._copy else None
            if told is None:
                raise
            raise told from error
        if self._copy:  # out of the worker's shared memory, which is then free for the next batch
            batch = {key: np.array(value) if isinstance(value, np.ndarray) else value for key, value in batch.items()}
        if not self._names:
            batch.pop("name", None)
        return batch

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _stop(running: list[Any]) -> None:
    running.pop().close()
    gc.collect()  # Grain's iterators hold themselves in cycles, and their shared memory with them


def plan(sources: Sequence[Any], weights: Sequence[float] | None, seed: int) -> grain.MapDataset:
    """Endless shuffled (source number, element) pairs: the images of a run in order, without reading any."""
    if weights is None:
        ends = np.cumsum([len(source) for source in sources])
        return _shuffled(int(ends[-1]), seed, 0).map(Locate(ends))
    if len(weights) != len(sources) or min(weights) <= 0:
        raise DataError(f"Mixture weights are {list(weights)}: give one number above 0 for each of the {len(sources)} sources.")
    parts = [_shuffled(len(source), seed, k + 1).map(Tag(k)) for k, source in enumerate(sources)]
    total = float(sum(weights))
    return grain.MapDataset.mix(parts, weights=[float(weight) / total for weight in weights])


def _shuffled(length: int, seed: int, stream: int) -> grain.MapDataset:
    """0 ... length - 1 in a new order each epoch, endlessly."""
    return grain.MapDataset.range(ENDLESS).map(Shuffle(length, (seed, stream)))


class Shuffle(grain.transforms.Map):
    """Place in an endless run -> element there.

    Not Grain's own shuffle: that takes milliseconds an index for sets of a few images, and it adds the epoch to the seed,
    so that the second epoch of one seed is the first of the next.
    """

    def __init__(self, length: int, seed: tuple[int, ...]):
        self.length, self.seed = length, seed
        self._orders: dict[int, np.ndarray] = {}

    def map(self, place: int) -> int:
        epoch, place = divmod(int(place), self.length)
        order = self._orders.get(epoch)
        if order is None:
            order = np.random.default_rng((*self.seed, epoch)).permutation(self.length)
            self._orders = dict([*self._orders.items()][-1:] + [(epoch, order)])  # at the seam threads need two
        return int(order[place])


class Locate(grain.transforms.Map):
    """Number in the joined sources -> (source number, element)."""

    def __init__(self, ends: np.ndarray):
        self.ends = ends

    def map(self, element: int) -> tuple[int, int]:
        k = int(np.searchsorted(self.ends, element, side="right"))
        return k, int(element - (self.ends[k - 1] if k else 0))


class Tag(grain.transforms.Map):
    """Element -> (source number, element)."""

    def __init__(self, k: int):
        self.k = k

    def map(self, element: int) -> tuple[int, int]:
        return self.k, int(element)


class Element(grain.transforms.Map):
    """Row number of this process -> the training example there."""

    def __init__(self, sources, plan, transform, seed, batch, rows, process_index):
        self.sources, self.plan, self.transform, self.seed = sources, plan, transform, seed
        self.batch, self.rows, self.process_index = batch, rows, process_index

    def map(self, row: int) -> dict[str, Any]:
        step, place = divmod(int(row), self.rows)
        number = step * self.batch + self.process_index * self.rows + place
        k, i = self.plan[number]
        example = read(self.sources[k], i)
        try:
            out = self.transform(example["image"], example["label"], np.random.default_rng((self.seed, number)))
        except (ValueError, cv2.error) as error:
            raise DataError(f"{self.sources[k].name}: {example['name']}: {error}") from error
        return {**out, "index": np.array([k, i], np.int32), "name": example["name"]}


def read(source: Any, i: int) -> dict[str, Any]:
    """source[i]; whatever goes wrong becomes a DataError that names the source and, where its message does, the file.

    A file server that fails for a moment is asked again.
    """
    try:
        return patiently(lambda: source[i], PAUSES, time.sleep)
    except DataError:
        raise
    except (OSError, ValueError, cv2.error) as error:
        todo = f"; {advice(error)}" if system_error(error) else ""
        raise DataError(f"{source.name}: element {i} cannot be read: {error}{todo}") from error


def collate(examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Examples of equal shapes -> one batch; names stay a list of str."""
    batch = {key: np.stack([example[key] for example in examples]) for key in examples[0] if key != "name"}
    return {**batch, "name": [example["name"] for example in examples]}


def fingerprint(
    sources: Sequence[Any],
    weights: Sequence[float] | None = None,
    transform: Transform | None = None,
    *,
    batch: int,
    seed: int = 0,
) -> tuple[str, dict[str, Any]]:
    """(short hash, plain values) of everything that decides the pixels of every batch, to refuse a resume on other data."""
    transform = TrainTransform() if transform is None else transform
    described = {
        "sources": [
            {"name": source.name, "domain": source.domain, "length": len(source), "fingerprint": source.fingerprint()}
            for source in sources
        ],
        "weights": None if weights is None else [float(weight) for weight in weights],
        "transform": transform.describe() if hasattr(transform, "describe") else repr(transform),
        "batch": batch,
        "seed": seed,
    }
    described = json.loads(json.dumps(described))
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16], described


def _check(sources: Sequence[Any], batch: int, process_index: int, process_count: int, start_step: int) -> None:
    if not sources:
        raise DataError("There is no training source: name at least one data set.")
    for source in sources:
        if not len(source):
            raise DataError(f"{source.name} ({source.domain}) holds no images: check its folder and split.")
    if batch < 1 or batch % process_count:
        raise DataError(f"batch is {batch} for {process_count} processes: give a multiple of {process_count}.")
    if not 0 <= process_index < process_count or start_step < 0:
        raise DataError(f"process {process_index} of {process_count} at step {start_step}: count processes and steps from 0.")


def _allow_processes() -> None:
    """What Grain's worker processes need: parsed absl flags, and a main module that a spawned process can import."""
    if multiprocessing.parent_process() is not None:
        raise DataError('A loader worker started loader workers: put the program under `if __name__ == "__main__":`.')
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if main is not None and not Path(main).exists():
        raise DataError(f"Loader workers cannot import the main module {main}: run the program from a file, or set workers=0.")
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["data_pipelines"], known_only=True)


def _start_worker(worker_index: int, worker_count: int) -> None:
    """In a worker process: OpenCV's own threads would fight with the other workers; it ends when its parent is killed.

    Ctrl-C reaches every process of a terminal: the parent saves and stops its workers, which go on until then.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    logging.getLogger("absl").setLevel(logging.WARNING)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Waits for the end of the process that started this one. Grain's workers would stay, and keep their memory, after kill -9."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

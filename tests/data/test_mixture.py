"""Mixtures: elements depend on (seed, number) alone, whatever the hosts, workers, threads and the step it starts at."""

import pickle
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.errors import DataError
from data_pipelines.mixture import fingerprint, plan, train_batches
from data_pipelines.transforms import TrainTransform

TRANSFORM = TrainTransform(32)


class Blocks:
    """A small source whose images tell which source and element they are."""

    classes = None

    def __init__(self, name, length, size=(40, 56), broken=()):
        self.name, self.domain, self.length, self.size, self.broken = name, name, length, size, broken

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        if i in self.broken:
            raise DataError(f"{self.name}/{i}.png is truncated: copy it again.")
        rng = np.random.default_rng((ord(self.name[0]), i))
        label = rng.integers(0, 19, (self.size[0] // 8, self.size[1] // 8), np.uint8).repeat(8, 0).repeat(8, 1)
        image = rng.integers(0, 256, (*self.size, 3), np.uint8)
        return {"image": image, "label": label, "name": f"{self.name}/{i}"}

    def fingerprint(self):
        return f"{self.name}-{self.length}"


SOURCES = (Blocks("a", 5), Blocks("b", 7))


def take(count, sources=SOURCES, weights=None, transform=TRANSFORM, batch=4, threads=2, **options):
    with train_batches(sources, weights, transform, batch=batch, threads=threads, **options) as batches:
        return [next(batches) for _ in range(count)]


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])


def test_batches_follow_the_data_contract():
    batch = take(1)[0]
    assert set(batch) == {"image", "label", "size", "index", "name"}
    assert batch["image"].shape == (4, 32, 32, 3) and batch["image"].dtype == np.uint8
    assert batch["label"].shape == (4, 32, 32) and batch["label"].dtype == np.uint8
    assert batch["size"].shape == batch["index"].shape == (4, 2) and batch["size"].dtype == batch["index"].dtype == np.int32
    assert batch["name"] == [f"{'ab'[k]}/{i}" for k, i in batch["index"]]


def test_two_hosts_hold_the_batch_of_one():
    whole = take(5)
    halves = [take(5, process_index=p, process_count=2) for p in range(2)]
    for step, batch in enumerate(whole):
        for key in ("image", "label", "size", "index", "name"):
            np.testing.assert_array_equal(np.concatenate([half[step][key] for half in halves]), batch[key])


def test_resume_at_a_step_gives_the_same_pixels():
    whole = take(6, weights=[2, 1])
    resumed = take(3, weights=[2, 1], start_step=3, threads=1, prefetch=1)
    for first, second in zip(whole[3:], resumed, strict=True):
        assert_equal(first, second)


def test_a_worker_process_gives_the_same_pixels():
    for first, second in zip(take(4)[2:], take(2, start_step=2, workers=1), strict=True):
        assert_equal(first, second)
        assert type(second["image"]) is np.ndarray and second["image"].flags.writeable


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_worker_processes_and_hosts(workers):
    whole = take(6)
    halves = [take(4, process_index=p, process_count=2, start_step=2, workers=workers) for p in range(2)]
    for step, batch in enumerate(whole[2:]):
        np.testing.assert_array_equal(np.concatenate([half[step]["image"] for half in halves]), batch["image"])


@settings(max_examples=20)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 1000), st.integers(0, 3))
def test_joined_sources_show_every_image_once_an_epoch(lengths, seed, epoch):
    order = plan([Blocks(chr(97 + k), n) for k, n in enumerate(lengths)], None, seed)
    total = sum(lengths)
    seen = [order[epoch * total + i] for i in range(total)]
    assert sorted(seen) == [(k, i) for k, n in enumerate(lengths) for i in range(n)]


def test_epochs_and_seeds_differ():
    sources = [Blocks("a", 40)]
    orders = [tuple(plan(sources, None, seed)[e * 40 + i] for i in range(40)) for seed in (0, 1) for e in (0, 1)]
    assert len(set(orders)) == 4
    first, second = take(10, [Blocks("a", 1)], batch=1)[::9]
    assert (first["image"] != second["image"]).any()  # the same image, with other random numbers


@settings(max_examples=20)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=3), st.integers(0, 100))
def test_weights_are_kept_exactly_and_sources_are_gone_through_in_turn(weights, seed):
    sources = [Blocks(chr(97 + k), 3 + k) for k in range(len(weights))]
    order = plan(sources, weights, seed)
    drawn = [order[i] for i in range(12 * sum(weights))]
    for k, weight in enumerate(weights):
        mine = [i for source, i in drawn if source == k]
        assert abs(len(mine) - 12 * weight) <= 1
        assert sorted(mine[: 3 + k]) == list(range(3 + k))


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_unreadable_image_stops_training_with_its_name(workers):
    with pytest.raises(DataError, match=r"a/2\.png is truncated"):
        take(3, [Blocks("a", 5, broken=(2,))], workers=workers)


def test_errors_of_the_system_and_of_pairs_name_the_source():
    class Vanished(Blocks):
        def __getitem__(self, i):
            raise FileNotFoundError(2, "No such file or directory", "/data/x.png")

    class Skewed(Blocks):
        def __getitem__(self, i):
            return {**super().__getitem__(i), "label": np.zeros((3, 3), np.uint8)}

    with pytest.raises(DataError, match=r"far: element \d+ cannot be read.*x\.png"):
        take(1, [Vanished("far", 3)])
    with pytest.raises(DataError, match=r"skew: skew/\d: Image and label differ"):
        take(1, [Skewed("skew", 3)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sources": []}, "no training source"),
        ({"sources": [Blocks("a", 0)]}, "holds no images"),
        ({"batch": 3, "process_count": 2}, "multiple of 2"),
        ({"process_index": 2, "process_count": 2}, "count processes"),
        ({"weights": [1]}, "one number above 0"),
        ({"weights": [1, 0]}, "one number above 0"),
    ],
)
def test_bad_mixtures_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        take(1, **options)


def test_fingerprint_tells_what_decides_the_pixels():
    short, described = fingerprint(SOURCES, [1, 2], TRANSFORM, batch=4, seed=0)
    assert (short, described) == fingerprint(SOURCES, [1, 2], TrainTransform(32), batch=4, seed=0)
    others = [
        fingerprint(SOURCES, None, TRANSFORM, batch=4),
        fingerprint(SOURCES, [1, 2], TRANSFORM, batch=8),
        fingerprint(SOURCES, [1, 2], TRANSFORM, batch=4, seed=1),
        fingerprint(SOURCES, [1, 2], TrainTransform(48), batch=4),
        fingerprint(SOURCES[:1] + (Blocks("b", 8),), [1, 2], TRANSFORM, batch=4),
    ]
    assert len({short, *(other for other, _ in others)}) == 6
    assert described["sources"][1] == {"name": "b", "domain": "b", "length": 7, "fingerprint": "b-7"}


@pytest.mark.parametrize("threads", [1, 6])
def test_as_many_threads_read_at_once_as_are_asked_for(threads):
    class Meeting(Blocks):
        met = threading.Event()
        barrier = threading.Barrier(threads, action=met.set)

        def __getitem__(self, i):
            if not self.met.is_set():
                self.barrier.wait(timeout=300)  # breaks, and the loader with it, when fewer threads come
            return super().__getitem__(i)

    assert len(take(2, [Meeting("a", 9)], batch=1, threads=threads)) == 2


def test_a_closed_loader_ends_and_sources_pickle():
    batches = train_batches(SOURCES, transform=TRANSFORM, batch=4, threads=1)
    next(batches)
    batches.close()
    batches.close()
    assert list(batches) == []
    assert pickle.loads(pickle.dumps(TRANSFORM)) == TRANSFORM

"""Logs that cannot be written: the run goes on, says it once, and what is missing follows when the disk takes it again."""

import errno
import io
import os
import struct
import sys
import time

import pytest
from run_train import evaluate
from stand_in import make_components
from tensorboardX.proto.event_pb2 import Event

from rein_jax.training import appending
from rein_jax.training.appending import LONGEST_PAUSE, Records, append
from rein_jax.training.loop import train
from rein_jax.training.metrics import MetricLog, Progress, read_metrics
from rein_jax.training.profiling import Profiler
from rein_jax.training.workdir import open_workdir

SETTINGS = {"steps": 12, "batch": 4, "log_every": 1, "checkpoint_every": 0, "tensorboard": True}


def go(workdir, at=lambda step: None, **more):
    """A run that calls `at(step)` before the batch of each step is given."""
    def build(config):
        components = make_components(config)
        plain = components.batches

        def batches(*where):
            for step, batch in enumerate(plain(*where)):
                at(step)
                yield batch

        components.batches = batches
        return components

    return train({"seed": 0, "train": {**SETTINGS, **more}}, workdir, build=build, evaluate=evaluate)


def trained(workdir):
    return [row["step"] for row in read_metrics(workdir) if row["kind"] == "train"]


def events(workdir):
    """[(step, tag)] of all event files, in the order of their names."""
    found = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12:12 + length])
            found += [(event.step, value.tag) for value in event.summary.value]
            data = data[16 + length:]
    return found


class Disk:
    """Refuses to write to files whose path ends in one of `names` while `full`, after it has taken a half of the record."""

    def __init__(self, monkeypatch, *names, number=errno.ENOSPC):
        self.names, self.full, self.number, self.real = names, False, number, os.write
        monkeypatch.setattr(appending.os, "write", self.write)

    def write(self, file, data):
        if self.full and os.readlink(f"/proc/self/fd/{file}").endswith(self.names):
            self.real(file, data[: len(data) // 2])
            raise OSError(self.number, os.strerror(self.number))
        return self.real(file, data)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ESTALE])
def test_a_full_disk_for_a_while_loses_no_line(tmp_path, monkeypatch, capfd, number):
    disk = Disk(monkeypatch, "metrics.jsonl", number=number)

    def at(step):
        disk.full = 3 <= step < 6

    go(tmp_path / "run", at)
    assert trained(tmp_path / "run") == list(range(1, 13))
    assert capfd.readouterr().err.count("cannot be written") == 1


def test_a_disk_that_stays_full_for_all_logs_ends_nothing(tmp_path, monkeypatch, capfd):
    disk = Disk(monkeypatch, "metrics.jsonl", str(os.getpid()))

    def at(step):
        disk.full = step >= 4

    assert go(tmp_path / "run", at)["steps"] == 12
    said = capfd.readouterr().err
    assert said.count("cannot be written") == 1 and "No space left on device" in said and "could not be written to" in said
    assert trained(tmp_path / "run") == list(range(1, len(trained(tmp_path / "run")) + 1)), "no half line"
    events(tmp_path / "run")  # no half record


def test_tensorboard_that_cannot_be_written_costs_the_run_nothing(tmp_path, capfd):
    (tmp_path / "run" / "tensorboard").parent.mkdir()
    open_workdir(tmp_path / "run", {"seed": 0, "train": SETTINGS})
    (tmp_path / "run" / "tensorboard").touch()  # a file where the folder should be
    (tmp_path / "run" / "metrics.jsonl").touch()
    go(tmp_path / "run")
    assert capfd.readouterr().err.count("cannot be written") == 1
    assert trained(tmp_path / "run") == list(range(1, 13))


def test_tensorboard_that_fails_for_a_while_has_every_number(tmp_path, monkeypatch, capfd):
    disk = Disk(monkeypatch, str(os.getpid()))

    def at(step):
        disk.full = 3 <= step < 6

    go(tmp_path / "run", at)
    steps = [step for step, tag in events(tmp_path / "run") if tag == "train/loss"]
    assert steps == list(range(1, 13)) and capfd.readouterr().err.count("cannot be written") == 1


@pytest.mark.parametrize("jump", [-86400, 86400 * 365 * 3000])
def test_a_clock_that_jumps_changes_no_number(tmp_path, monkeypatch, jump):
    """tensorboardX's thread died of it, and add_scalar then waited for ever."""
    offset, real = [0], time.time
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])

    def at(step):
        offset[0] = jump if step >= 4 else 0

    results = go(tmp_path / "run", at)
    rows = [row for row in read_metrics(tmp_path / "run") if row["kind"] == "train"]
    assert len(rows) == 12 and results["seconds_of_this_process"] >= 0
    assert all(row["step_seconds"] > 0 and row["images_per_second"] > 0 and 0 <= row["data_wait"] <= 1 for row in rows)
    assert [step for step, tag in events(tmp_path / "run") if tag == "train/loss"] == list(range(1, 13))


def test_event_files_are_read_in_order_after_the_clock_went_back(tmp_path, monkeypatch):
    for now, start in ((2_000_000_000, 0), (1_000_000_000, 2)):
        monkeypatch.setattr(time, "time", lambda now=now: float(now))
        log = MetricLog(tmp_path, start)
        log.write(start + 1, "train", {"loss": 1.0})
        log.close()
    assert events(tmp_path) == [(1, "train/loss"), (3, "train/loss")]


def test_logging_starts_no_thread_that_could_die(tmp_path):
    import threading

    before = set(threading.enumerate())
    log = MetricLog(tmp_path, 0)
    for step in range(1, 200):  # the queue of tensorboardX held 10
        log.write(step, "train", {"loss": 1.0})
    assert set(threading.enumerate()) <= before  # those of earlier tests may end meanwhile
    log.close()
    assert len(events(tmp_path)) == 199


def test_attempts_become_rarer_and_records_stay_in_order(tmp_path):
    folder, failures = tmp_path / "gone", []
    records = Records(folder / "log", lambda path, error: failures.append(error))
    tried = []
    write, records.write = records.write, lambda: (tried.append(1), write())[1]
    for number in range(500):
        records.put(f"{number}\n".encode())
    assert len(failures) == 1 and len(tried) < 20 and records.pause == LONGEST_PAUSE
    folder.mkdir()
    for number in range(500, 600):
        records.put(f"{number}\n".encode())
    assert records.write() and (folder / "log").read_text().split() == [str(number) for number in range(600)]


def test_what_is_held_back_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(appending, "KEPT", 5)
    records = Records(tmp_path / "gone" / "log", lambda path, error: None)
    for number in range(9):
        records.put(f"{number}\n".encode())
    assert len(records.waiting) == 5


def test_a_write_that_takes_a_part_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path, real = tmp_path / "log", os.write
    append(path, b"whole\n")
    monkeypatch.setattr(appending.os, "write", lambda file, data: real(file, data[:2]))
    with pytest.raises(OSError, match="No space left"):
        append(path, b"another\n")
    assert path.read_bytes() == b"whole\n"


def test_a_fifo_or_folder_in_the_place_of_the_log_holds_nothing_up(tmp_path, capfd):
    for name, make in (("fifo", os.mkfifo), ("folder", os.mkdir)):
        (tmp_path / name).mkdir()
        make(tmp_path / name / "metrics.jsonl")
        log = MetricLog(tmp_path / name, 0, tensorboard=False)
        log.write(1, "train", {"loss": 1.0})
        log.close()
        assert read_metrics(tmp_path / name) == []
    assert capfd.readouterr().out.count("cannot be written") == 2


class Stream(io.StringIO):
    """A terminal or log file that refuses every word."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error

    flush = write


def test_output_to_a_full_disk_ends_no_run(tmp_path, monkeypatch):
    """`rein train > log.txt 2>&1`."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, Stream(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    assert go(tmp_path / "run", checkpoint_every=4)["steps"] == 12
    assert trained(tmp_path / "run") == list(range(1, 13))


def test_a_reader_that_went_away_ends_the_run(monkeypatch):
    progress = Progress(10, 0)
    monkeypatch.setattr(sys, "stderr", Stream(BrokenPipeError()))
    with pytest.raises(BrokenPipeError):
        progress.say("a line")


@pytest.mark.parametrize("function", ["start_trace", "stop_trace"])
def test_a_trace_that_cannot_be_written_costs_the_run_nothing(tmp_path, monkeypatch, function):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    said = []
    monkeypatch.setattr("jax.profiler.start_trace", lambda folder: None)
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: None)
    monkeypatch.setattr(f"jax.profiler.{function}", full)
    profiler = Profiler("2:4", tmp_path / "profile", True, said.append)
    for step in range(6):
        profiler.before(step)
        profiler.after(step + 1, {})
    profiler.close()
    assert len(said) == 1 and "trace could not be written" in said[0] and "No space left on device" in said[0]


def test_a_log_that_cannot_be_cut_is_refused_before_anything_changes(tmp_path, monkeypatch):
    log = MetricLog(tmp_path, 0, tensorboard=False)
    for step in (1, 2, 3):
        log.write(step, "train", {"loss": 1.0})
    log.close()
    before = (tmp_path / "metrics.jsonl").read_bytes()

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError) as raised:
        MetricLog(tmp_path, 2, tensorboard=False)
    assert raised.value.filename == str(tmp_path / "metrics.jsonl") and (tmp_path / "metrics.jsonl").read_bytes() == before
    MetricLog(tmp_path, 3, tensorboard=False).close()  # nothing to cut, nothing to write



"""Files that grow while a run goes on, on disks that fail for a while: the run never waits for them and never ends by them."""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

KEPT = 100_000  # records that are held back at most
LONGEST_PAUSE = 64  # records between two attempts


def append(path: Path, data: bytes) -> None:
    """Add data at the end of a file, or leave it as it was and raise OSError. The file is opened anew each time: it may have moved."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)  # a FIFO would block
    file = os.open(path, flags, 0o666)
    try:
        start = os.fstat(file).st_size
        try:
            if os.write(file, data) != len(data):  # what fits on a disk that is nearly full
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, start)
            raise
    finally:
        os.close(file)


class Records:
    """Records on their way to a file. What it refuses is kept, in order, and tried again, ever more rarely, with a later record.

    `failed(path, error)` is called when it begins to refuse. Nothing here raises OSError, and nothing here waits.
    """

    def __init__(self, path: Path, failed: Callable[[Path, OSError], None], own_folder: bool = False) -> None:
        self.path, self.failed, self.own_folder = path, failed, own_folder
        self.waiting: list[bytes] = []
        self.pause = self.skip = 0

    def put(self, *records: bytes) -> None:
        """Write the records, now or later."""
        self.waiting += records[: KEPT - len(self.waiting)]
        if self.skip:
            self.skip -= 1
        else:
            self.write()

    def write(self) -> bool:
        """Try to write all that waits; was it?"""
        try:
            if self.waiting:
                if self.own_folder:  # never the run's: that may have been renamed
                    self.path.parent.mkdir(exist_ok=True)
                append(self.path, b"".join(self.waiting))
        except OSError as error:
            if not self.pause:
                self.failed(self.path, error)
            self.pause = self.skip = min(2 * self.pause or 1, LONGEST_PAUSE)
            return False
        self.waiting.clear()
        self.pause = self.skip = 0
        return True


class Board:
    """The event file of TensorBoard, written at once. tensorboardX's own writer has a queue that its caller waits at for ever once the
    thread behind it has died (a full disk, a clock set back)."""

    def __init__(self, folder: Path, start_step: int, failed: Callable[[Path, OSError], None]) -> None:
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self.records = Records(folder / _new_name(folder), failed, own_folder=True)
        first = [_record(Event(wall_time=time.time(), file_version="brain.Event:2"))]
        if start_step:  # hides what a killed run wrote after its checkpoint
            start = SessionLog(status=SessionLog.START)
            first.append(_record(Event(wall_time=time.time(), step=start_step + 1, session_log=start)))
        self.records.put(*first)

    def add(self, step: int, values: dict[str, float]) -> None:
        """The numbers of a step."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        self.records.put(*(_record(Event(wall_time=time.time(), step=step, summary=scalar(name, value))) for name, value in values.items()))


def _new_name(folder: Path) -> str:
    """TensorBoard reads event files in the order of their names: the number of this one is above all others, whatever the clock says."""
    last = 0
    with suppress(OSError):
        numbers = [name.split(".")[3] for name in os.listdir(folder) if name.startswith("events.out.tfevents.")]
        last = max((int(number) for number in numbers if number.isdigit()), default=0)
    return f"events.out.tfevents.{max(int(time.time()), last + 1):010d}.{os.getpid()}"


def _record(event) -> bytes:
    """One event as TFRecord: length, data, and the check sum of each."""
    from tensorboardX.record_writer import masked_crc32c

    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))

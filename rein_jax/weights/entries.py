"""What a checkpoint is: arrays by name, each read from its file when it is asked for."""

from __future__ import annotations

import stat
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rein_jax.errors import UserError

MOST_AXES = 32  # NumPy ends at 64, PyTorch at 64 too; no model has more than a handful
MOST_BYTES = 1 << 60


class FileBytes:
    """A regular file held open and read at any position.

    It is not memory-mapped: arrays that were read do not change with the file, and a file that is cut short or cannot be read
    any more is a UserError where a mapped one would end the process.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        check_regular(self.path)
        try:
            self._file = self.path.open("rb", buffering=0)
            self.size = self._file.seek(0, 2)
        except OSError as error:
            raise unreadable(self.path, error) from None
        self._turn = threading.Lock()
        weakref.finalize(self, self._file.close)

    def read(self, start: int, count: int) -> np.ndarray:
        """The bytes [start, start + count) as a new uint8 array."""
        out = np.empty(count, np.uint8)
        left = memoryview(out)
        try:
            with self._turn:
                self._file.seek(start)
                while left:
                    got = self._file.readinto(left)
                    if not got:
                        raise UserError(f"{self.path} is truncated: {len(left)} bytes are missing at its end; download or copy it again.")
                    left = left[got:]
        except OSError as error:
            raise unreadable(self.path, error) from None
        return out

    def array(self, start: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """A row-major little-endian array that begins at `start`, read-only."""
        out = self.read(start, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize).view(dtype).reshape(shape)
        out.flags.writeable = False
        return out


def check_regular(path: Path) -> None:
    """UserError for what is not a regular file: opening a pipe would wait for ever."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise unreadable(path, error) from None
    if stat.S_ISDIR(mode):
        raise UserError(f"{path} is a directory; give the checkpoint file inside it.")
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is not a regular file but a pipe or a device; write the checkpoint to a file first.")


def unreadable(path: Path, error: Exception) -> UserError:
    """The sentence for a file that the system does not let us read."""
    return UserError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).")


@dataclass(frozen=True)
class Entry:
    """One array of a file, not yet read. A shape that no array can have is a ValueError."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    def __post_init__(self):
        if len(self.shape) > MOST_AXES:
            raise ValueError(f"an array of {len(self.shape)} axes")
        size = self.dtype.itemsize
        for side in self.shape:
            size *= max(side, 1)
        if size > MOST_BYTES:
            raise ValueError(f"an array of shape {self.shape}")


@dataclass(frozen=True)
class Checkpoint(Mapping):
    """The arrays of a file by name; `checkpoint[name]` reads one, read-only.

    kind: what the file is, for messages. wrapper: the nested dictionaries that were opened ("state_dict", "model", ...).
    metadata: text stored beside the arrays (safetensors). beside: other sets of weights in the file, which were not opened.
    files: the files that were opened (several where a checkpoint is in shards). Names keep the file's own spelling.
    """

    path: Path
    kind: str
    entries: dict[str, Entry]
    wrapper: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    def __getitem__(self, name: str) -> np.ndarray:
        return self.entries[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """{name: shape}, without reading anything."""
        return {name: entry.shape for name, entry in self.entries.items()}

    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(int(np.prod(e.shape, dtype=np.int64)) * e.dtype.itemsize for e in self.entries.values())

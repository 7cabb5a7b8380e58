"""How this process holds memory on a CPU host (glibc): a step's temporaries stay mapped, and are not taken twice.

An XLA CPU program takes its temporaries, gigabytes for a large model, as one block when it starts and frees it when it has ended. By
default glibc unmaps such a block; mapping its pages anew is up to a fifth of the step's time. The `rein` command calls `keep` first
of all; whoever compiles a step runs it by `alone`. Neither does anything with another C library.
"""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # mallopt's names for its parameters
_LARGE = 2**25  # bytes: temporaries below are not watched
_PATIENCE = 1.0  # seconds
_CALM = 2  # runs without growth after which freed memory stays

_libc: ctypes.CDLL | None = None


class _Info(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]


def keep() -> None:
    """Let freed memory stay with the process.

    One arena: in the others glibc maps a large block whatever mmap_max says. The arenas of threads that are there stay in use, so this is
    to be called before any work is begun.
    """
    global _libc
    try:
        libc = ctypes.CDLL(None)
        libc.mallinfo2.restype = _Info
        libc.malloc_trim.argtypes = [ctypes.c_size_t]
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, -1)
        libc.mallopt(_ARENA_MAX, 1)
    except (OSError, AttributeError, TypeError):
        return
    _libc = libc


def alone(program: Any) -> Any:
    """The compiled program; on a CPU, after `keep`, each call waits until the one before has given its temporaries back."""
    import jax  # not before `keep`

    return _Alone(program) if _libc is not None and jax.default_backend() == "cpu" else program


class _Alone:
    """A compiled program `program(state, ...) -> (state, metrics)`, the state donated, whose runs never overlap.

    Results are ready a moment before the temporaries are free. A run that starts in this moment takes a second block, and the heap holds
    both for good. One more thing sends a block elsewhere: glibc's aligned allocation needs up to 96 bytes more than the block keeps, and
    a thread may hold on to a small thing just behind. So free memory is given back before a run until the heap has stopped growing, and
    always where the machine has no room for a second block.
    """

    def __init__(self, program: Any):
        _libc.malloc_trim(0)  # what compiling used
        self._program, self._metrics = program, None
        self._temporaries = program.memory_analysis().temp_size_in_bytes
        self._limit = _in_use() + self._temporaries // 2
        self._heap, self._calm = 0, 0  # its size so far; how many runs in a row have not enlarged it
        self._scarce = self._temporaries > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 4  # no room for a second block

    def __getattr__(self, name: str) -> Any:
        return getattr(self._program, name)

    def __call__(self, *inputs: Any) -> tuple[Any, Any]:
        if self._metrics is not None and self._temporaries > _LARGE:
            self._wait()
            self._settle()
        state, self._metrics = self._program(*inputs)
        return state, self._metrics

    def _wait(self) -> None:
        import jax

        jax.block_until_ready(self._metrics)
        end = time.perf_counter() + _PATIENCE
        while (used := _in_use()) > self._limit and time.perf_counter() < end:
            time.sleep(0.0005)
        self._limit = max(self._limit, used + self._temporaries // 2)  # something else may have grown

    def _settle(self) -> None:
        size = _libc.mallinfo2().arena
        self._calm = self._calm + 1 if size < self._heap + self._temporaries // 2 else 0
        self._heap = max(self._heap, size)
        if self._calm < _CALM or self._scarce:
            _libc.malloc_trim(0)


def _in_use() -> int:
    return _libc.mallinfo2().uordblks

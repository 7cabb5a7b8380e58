"""What watches a run: requests to stop, compilations, steps that are not finite, jumps of the loss, useless data."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rein_jax import host_memory
from rein_jax.errors import UserError

PREEMPTED = 75  # exit code of a run that saved and left because it was told to (EX_TEMPFAIL: start it again)


class Preempted(Exception):
    """The run was told to stop, has saved, and can be started again with the same command."""


class StopRequest:
    """SIGTERM (schedulers, Cloud TPU's preemption) and SIGINT become a flag that the loop reads between steps.

    A second SIGINT interrupts at once. Outside the main thread no handler can be set and the flag stays down.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame) -> None:
        if self.signal == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.signal = number


class CompileBudget:
    """Compiles the step once per shape of batch, and fails the run when that happens more often than allowed."""

    def __init__(self, compile_step: Callable[[Mapping[str, Any]], Any], budget: int) -> None:
        self.compile_step, self.budget = compile_step, budget
        self.programs: dict[tuple, Any] = {}

    @property
    def count(self) -> int:
        """Compilations so far."""
        return len(self.programs)

    def program(self, batch: Mapping[str, Any]) -> Any:
        """The compiled step for batches of this shape."""
        shape = tuple(sorted((name, tuple(array.shape), str(array.dtype)) for name, array in batch.items()))
        if shape not in self.programs:
            if self.budget and self.count >= self.budget:
                raise UserError(
                    f"The training step would be compiled {self.count + 1} times, train.compile_budget={self.budget}: the batch "
                    f"changed from {_shapes(next(reversed(self.programs)))} to {_shapes(shape)}. Give all batches one shape.")
            self.programs[shape] = host_memory.alone(self.compile_step(batch))
        return self.programs[shape]


def _shapes(signature: tuple) -> str:
    return ", ".join(f"{name} {list(shape)} {dtype}" for name, shape, dtype in signature)


class StepGuard:
    """Looks at the metrics of every step; returns warnings, raises when the run is beyond help."""

    def __init__(self, skip_limit: int, spike: float, window: int = 50) -> None:
        self.skip_limit, self.spike = skip_limit, spike
        self.losses: deque[float] = deque(maxlen=window)
        self.empty = 0

    def check(self, step: int, metrics: Mapping[str, float], names: Sequence[str]) -> list[str]:
        """Warnings about one finished step; `names` are the files of its batch."""
        files = ", ".join(names) or "unnamed images"
        if not metrics["finite"]:
            if metrics["row"] >= self.skip_limit:
                raise UserError(
                    f"{int(metrics['row'])} steps in a row gave a loss or gradient that is not finite, the last one on {files}; "
                    "begin again with a lower --config.optim.lr or --config.precision=fp32, and --restart (existing files are kept) or "
                    "another --workdir; or repair these images (train.skip_limit sets the limit).")
            return [f"step {step} skipped: loss {metrics['loss']:.4g}, gradient norm {metrics['grad_norm']:.4g} on {files}"]
        warnings = []
        if self.spike and len(self.losses) >= 10:
            usual = float(np.median(self.losses))
            if metrics["loss"] > self.spike * usual:
                warnings.append(f"step {step}: loss {metrics['loss']:.4g} is {metrics['loss'] / usual:.1f} times its usual "
                                f"{usual:.4g}; batch: {files}")
        self.losses.append(float(metrics["loss"]))
        return warnings

    def check_batch(self, step: int, batch: Mapping[str, np.ndarray], names: Sequence[str]) -> list[str]:
        """Warnings about useless data: images of one colour, batches without a labelled pixel (warned of 5 times at most)."""
        if self.empty >= 5:
            return []
        problems = []
        if "label" in batch and not np.any(batch["label"][:, ::4, ::4] != 255) and not np.any(batch["label"] != 255):
            problems.append("no labelled pixel")
        if "image" in batch:
            coarse = batch["image"][:, ::8, ::8].reshape(len(batch["image"]), -1)
            flat = [i for i, image in enumerate(coarse) if image.min() == image.max()]
            if flat:
                problems.append("image(s) of one colour: " + ", ".join(names[i] if i < len(names) else str(i) for i in flat))
        self.empty += bool(problems)
        return [f"step {step}: useless data: {problem} (batch: {', '.join(names)})" for problem in problems]

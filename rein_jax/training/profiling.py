"""A profiler trace of chosen steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax

from data_pipelines.system_errors import system_error
from rein_jax.configuration.training import profiled_steps


class Profiler:
    """Traces the steps "first:last" of train.profile on process 0 into a folder that TensorBoard and Perfetto read.

    A trace that cannot be begun or written (a full disk) is said through `say`; the run continues without it.
    """

    def __init__(self, steps: str, folder: Path, active: bool, say: Callable[[str], None] = print) -> None:
        self.steps = profiled_steps(steps) if active else range(0)
        self.folder, self.say, self.tracing = folder, say, False

    def before(self, step: int) -> None:
        """Before step number `step` (counted from 0) is launched."""
        if self.steps and not self.tracing and step in self.steps:
            self.tracing = self._traced(lambda: jax.profiler.start_trace(str(self.folder)))
            self.steps = self.steps if self.tracing else range(0)

    def after(self, step: int, metrics: dict) -> None:
        """After `step` steps were launched: ends the trace behind the last chosen one."""
        if self.tracing and step >= self.steps.stop:
            jax.block_until_ready(metrics)
            self.close()

    def close(self) -> None:
        """End the trace if one is running."""
        if self.tracing:
            self.tracing = False
            self._traced(jax.profiler.stop_trace)

    def _traced(self, action: Callable[[], None]) -> bool:
        try:
            action()
        except Exception as error:  # JAX raises its own and the system's
            self.say(f"WARNING: the profiler's trace could not be written to {self.folder} ({system_error(error) or error}); "
                     "the run continues without it.")
            return False
        return True

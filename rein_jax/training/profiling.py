"""A profiler trace of chosen steps."""

from __future__ import annotations

from pathlib import Path

import jax

from rein_jax.configuration.training import profiled_steps


class Profiler:
    """Traces the steps "first:last" of train.profile on process 0 into a folder that TensorBoard and Perfetto read."""

    def __init__(self, steps: str, folder: Path, active: bool) -> None:
        self.steps = profiled_steps(steps) if active else range(0)
        self.folder, self.tracing = folder, False

    def before(self, step: int) -> None:
        """Before step number `step` (counted from 0) is launched."""
        if self.steps and not self.tracing and step in self.steps:
            jax.profiler.start_trace(str(self.folder))
            self.tracing = True

    def after(self, step: int, metrics: dict) -> None:
        """After `step` steps were launched: ends the trace behind the last chosen one."""
        if self.tracing and step >= self.steps.stop:
            jax.block_until_ready(metrics)
            self.close()

    def close(self) -> None:
        """End the trace if one is running."""
        if self.tracing:
            jax.profiler.stop_trace()
            self.tracing = False

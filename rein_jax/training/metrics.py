"""Where the numbers of a run go: metrics.jsonl, TensorBoard, and the progress bar."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rein_jax.errors import UserError


def clean(value: Any) -> Any:
    """A number as JSON can hold it (NaN and inf become null)."""
    number = float(value)
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


class MetricLog:
    """Appends one JSON object a line to metrics.jsonl and mirrors numbers to TensorBoard; on resume later lines are cut off.

    Keys: "step" (steps finished), "kind" ("train", "eval", or "sample" for an evaluation on `train.eval_images`) and the numbers.
    Processes other than the first log nothing.
    """

    def __init__(self, workdir: Path, start_step: int, active: bool = True, tensorboard: bool = True, last: bool = False) -> None:
        self.path, self.file, self.board = workdir / "metrics.jsonl", None, None
        if not active:
            return
        self._cut(start_step, last)
        self.file = self.path.open("a", encoding="utf-8")
        if tensorboard:
            from tensorboardX import SummaryWriter

            self.board = SummaryWriter(str(workdir / "tensorboard"), purge_step=start_step + 1 if start_step else None)

    def _cut(self, start_step: int, last: bool) -> None:
        """Drop what a killed run wrote after the checkpoint that is resumed, and a line cut short.

        The evaluations of the `last` step go too: they are done again.
        """
        if not self.path.exists():
            return
        kept = [line + "\n" for line, row in _rows(self.path)
                if row["step"] < start_step or (row["step"] == start_step and not (last and row["kind"] in ("eval", "sample")))]
        partial = self.path.with_suffix(".partial")
        partial.write_text("".join(kept), encoding="utf-8")
        os.replace(partial, self.path)

    def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """One line; strings are kept in the JSONL only."""
        if self.file is None:
            return
        row = {name: value if isinstance(value, str) else clean(value) for name, value in values.items()}
        try:
            self.file.write(json.dumps({"step": step, "kind": kind, **row}) + "\n")
            self.file.flush()
        except OSError as error:
            raise UserError(f"{self.path} could not be written ({error.strerror or error}). Free some space there and run the same "
                            "command again to go on.") from None
        if self.board is not None:
            for name, value in row.items():
                if isinstance(value, (int, float)):
                    self.board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Flush and close both."""
        if self.file is not None:
            with suppress(OSError):  # what a full disk did not take was told by `write`
                self.file.close()
        if self.board is not None:
            self.board.close()


def read_metrics(workdir: Path) -> list[dict]:
    """The lines of WORKDIR/metrics.jsonl; damaged ones and an unfinished last one are left out."""
    path = Path(workdir) / "metrics.jsonl"
    return [row for _, row in _rows(path)] if path.exists() else []


def _rows(path: Path) -> Iterator[tuple[str, dict]]:
    """(line, what it holds) of every line that is whole."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(json.JSONDecodeError):
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("step"), int) and isinstance(row.get("kind"), str):
                yield line, row


class Clock:
    """Splits the time of the loop: seconds per step, and seconds in which the device stood idle waiting for data."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin a new interval (after each line of the log)."""
        self.start, self.steps, self.waited = time.perf_counter(), 0, 0.0

    def step(self, waited: float) -> None:
        """One step done; `waited` seconds of it were spent waiting for data with nothing running on the device."""
        self.steps, self.waited = self.steps + 1, self.waited + waited

    def summary(self, batch: int) -> dict[str, float]:
        """images_per_second, step_seconds and data_wait (share of the time, 0 to 1) of the interval."""
        seconds = max(time.perf_counter() - self.start, 1e-9)
        steps = max(self.steps, 1)
        return {"images_per_second": batch * steps / seconds, "step_seconds": seconds / steps,
                "data_wait": min(self.waited / seconds, 1.0)}


class Progress:
    """The bar: step, loss, learning rate, images/s, share of time waiting for data, ETA. Plain lines without a terminal."""

    def __init__(self, total: int, start: int, active: bool = True) -> None:
        self.active, self.total, self.tty = active, total, sys.stderr.isatty()
        self.bar = tqdm(total=total, initial=start, unit="step", disable=not (active and self.tty), dynamic_ncols=True)

    def advance(self) -> None:
        """One step finished."""
        self.bar.update(1)

    def show(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of the last interval."""
        if not self.active:
            return
        text = (f"loss {values['loss']:.4f}  lr {values['lr']:.3g}  {values['images_per_second']:.1f} img/s  "
                f"data wait {values['data_wait']:.0%}")
        if self.tty:
            self.bar.set_postfix_str(text)
        else:
            eta = (self.total - step) * values["step_seconds"]
            self.say(f"step {step}/{self.total}  {text}  ETA {int(eta // 60)}:{int(eta % 60):02d}")

    def say(self, text: str) -> None:
        """A line that does not tear the bar."""
        if self.active:
            tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """Finish the bar."""
        self.bar.close()

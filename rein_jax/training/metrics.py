"""Where the numbers of a run go: metrics.jsonl, TensorBoard, and the progress bar."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_pipelines.atomic import write_atomically
from data_pipelines.system_errors import advice
from rein_jax.training.appending import Board, Records


def clean(value: Any) -> Any:
    """A number as JSON can hold it (NaN and inf become null)."""
    number = float(value)
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


class MetricLog:
    """Appends one JSON object a line to metrics.jsonl and mirrors numbers to TensorBoard; on resume later lines are cut off.

    Keys: "step" (steps finished), "kind" ("train", "eval", or "sample" for an evaluation on `train.eval_images`) and the numbers.
    Processes other than the first log nothing. A disk that refuses is said once, through `say`, and what it refused is written
    when it can be: logging never holds a run and never ends it.
    """

    def __init__(self, workdir: Path, start_step: int, active: bool = True, tensorboard: bool = True, last: bool = False,
                 say: Callable[[str], None] = print) -> None:
        self.path, self.say, self.warned = workdir / "metrics.jsonl", say, False
        self.lines = self.board = None
        if not active:
            return
        self._cut(start_step, last)
        self.lines = Records(self.path, self._refused)
        if tensorboard:
            self.board = Board(workdir / "tensorboard", start_step, self._refused)

    def _cut(self, start_step: int, last: bool) -> None:
        """Drop what a killed run wrote after the checkpoint that is resumed, and a line cut short.

        The evaluations of the `last` step go too: they are done again.
        """
        if not self.path.is_file():
            return
        kept = [line + "\n" for line, row in _rows(self.path)
                if row["step"] < start_step or (row["step"] == start_step and not (last and row["kind"] in ("eval", "sample")))]
        text = "".join(kept).encode()
        if text != self.path.read_bytes():
            write_atomically(self.path, text)

    def _refused(self, path: Path, error: OSError) -> None:
        if not self.warned:
            self.warned = True
            self.say(f"WARNING: {path} cannot be written ({error.strerror or error}); the run continues, its log follows when it can be "
                     f"written again: {advice(error)}.")

    def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """One line; strings are kept in the JSONL only."""
        if self.lines is None:
            return
        row = {name: value if isinstance(value, str) else clean(value) for name, value in values.items()}
        self.lines.put((json.dumps({"step": step, "kind": kind, **row}) + "\n").encode())
        if self.board is not None:
            self.board.add(step, {f"{kind}/{name}": value for name, value in row.items() if isinstance(value, (int, float))})

    def close(self) -> None:
        """A last attempt to write what waits; what stays unwritten is said."""
        if self.lines is not None and not self.lines.write():
            self.say(f"WARNING: {len(self.lines.waiting)} lines of the log could not be written to {self.path}.")
        if self.board is not None:
            self.board.records.write()


def read_metrics(workdir: Path) -> list[dict]:
    """The lines of WORKDIR/metrics.jsonl; damaged ones and an unfinished last one are left out."""
    path = Path(workdir) / "metrics.jsonl"
    return [row for _, row in _rows(path)] if path.is_file() else []


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
    """The bar: step, loss, learning rate, images/s, share of time waiting for data, ETA. Plain lines without a terminal.

    A terminal or log file that cannot be written (a full disk) costs its lines and nothing else. Times come from the clock that no one
    sets: tqdm's own follow the time of day, so that its rate and ETA are left out.
    """

    def __init__(self, total: int, start: int, active: bool = True) -> None:
        self.active, self.total, self.tty = active, total, sys.stderr.isatty()
        self.bar = tqdm(total=total, initial=start, unit="step", disable=not (active and self.tty), dynamic_ncols=True,
                        bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt}{postfix}")

    def advance(self) -> None:
        """One step finished."""
        with unheard():
            self.bar.update(1)

    def show(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of the last interval."""
        if not self.active:
            return
        eta = (self.total - step) * values["step_seconds"]
        lr = f"lr {values['lr']:.3g}  " if "lr" in values else ""
        text = (f"loss {values['loss']:.4f}  {lr}{values['images_per_second']:.1f} img/s  "
                f"data wait {values['data_wait']:.0%}  ETA {int(eta // 60)}:{int(eta % 60):02d}")
        if self.tty:
            with unheard():
                self.bar.set_postfix_str(text)
        else:
            self.say(f"step {step}/{self.total}  {text}")

    def say(self, text: str) -> None:
        """A line that does not tear the bar."""
        if self.active:
            with unheard():
                tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """Finish the bar."""
        with unheard():
            self.bar.close()


@contextmanager
def unheard() -> Iterator[None]:
    """Words that cannot be written (a log file on a full disk) are lost and the run goes on; a reader that went away ends it."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError:
        pass

"""Two libraries measured in turns, every measurement in a process of its own so that its peak memory is its own.

A machine that slows down slows both.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rein_jax.bench.machine import peak_rss

REIN = (sys.executable, "-m", "rein_jax.cli.main")  # the `rein` command: what users get


def take_turns(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, Any]:
    """{name: summary of its rounds}, and "times_faster": how much faster "ours" is than each other one."""
    found: dict[str, Any] = {name: _summary(results) for name, results in in_turns(commands, rounds).items()}
    if "seconds" in found["ours"]:
        faster = {name: round(result["seconds"] / found["ours"]["seconds"], 2)
                  for name, result in found.items() if name != "ours" and "seconds" in result}
        found["times_faster"] = faster
    return found


def in_turns(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """{name: the JSON line of each round, or {"failed": why}}."""
    runs: dict[str, list[dict]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            runs[name].append(_run(command))
    return runs


def timed(once: Callable[[], Any], passes: int, warmup: int = 1) -> dict[str, Any]:
    """{"seconds", "cpu_seconds"} of each pass after those to warm up, and the peak memory of the process in MB."""
    seconds, processor = [], []
    for _ in range(warmup + passes):
        wall, cpu = time.perf_counter(), time.process_time()
        once()
        seconds.append(time.perf_counter() - wall)
        processor.append(time.process_time() - cpu)
    return {"seconds": seconds[warmup:], "cpu_seconds": processor[warmup:],
            "peak_rss_mb": peak_rss() / 1024**2}


def _run(command: Sequence[str]) -> dict[str, Any]:
    """The JSON line of a process, or {"failed": its last words}."""
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
    if done.returncode:
        if done.returncode < 0:
            return {"failed": f"killed by signal {-done.returncode} (9: out of memory?)"}
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def _summary(results: list[dict]) -> dict[str, Any]:
    failed = [result for result in results if "failed" in result]
    if failed:
        return failed[0]
    seconds, processor = ([s for result in results for s in result[name]] for name in ("seconds", "cpu_seconds"))
    rest = {name: value for name, value in results[0].items() if name not in ("seconds", "cpu_seconds", "peak_rss_mb")}
    return {"seconds": round(statistics.median(seconds), 5), "best": round(min(seconds), 5),
            "cpu_seconds": round(statistics.median(processor), 3),
            "peak_rss_mb": round(max(result["peak_rss_mb"] for result in results)), **rest}

"""Several processes as one run: joining them, agreeing, and who may print."""

from __future__ import annotations

import os
from collections.abc import Mapping

import jax
import numpy as np

from rein_jax import peers
from rein_jax.errors import UserError

LOST_AFTER = 30  # seconds until JAX gives up a process that sends nothing; `peers` notices most losses at once
FLAGS = ("coordinator", "processes", "process")


def join(coordinator: str | None = None, processes: int | None = None, process: int | None = None,
         environment: Mapping[str, str] = os.environ) -> bool:
    """Join the other processes of the run, if there are any; True if it is one of several. Call before anything touches a device.

    Sources, in this order: the three arguments; REIN_COORDINATOR (host:port), REIN_PROCESSES, REIN_PROCESS; SLURM with more
    than one task; a Cloud TPU slice of several hosts. All or none of the three values must be given.
    """
    given = _given(coordinator, processes, process, environment)
    if given:
        if given[1] == 1:
            return False
        if jax.config.jax_platforms == "cpu" or environment.get("JAX_PLATFORMS") == "cpu":
            jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(given[0], given[1], given[2], heartbeat_timeout_seconds=LOST_AFTER)
    elif int(environment.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in environment or _tpu_hosts(environment) > 1:
        jax.distributed.initialize(heartbeat_timeout_seconds=LOST_AFTER)
    else:
        return False
    if jax.process_count() == 1:
        return False
    peers.watch(given[0].rpartition(":")[0] if given else None)
    return True


def _given(coordinator, processes, process, environment) -> tuple[str, int, int] | None:
    """The three explicit values, or None; some but not all of them is a UserError."""
    values = [coordinator or environment.get("REIN_COORDINATOR"),
              environment.get("REIN_PROCESSES") if processes is None else processes,
              environment.get("REIN_PROCESS") if process is None else process]
    if all(value is None for value in values):
        return None
    if any(value is None for value in values):
        missing = [f"--{name}" for name, value in zip(FLAGS, values, strict=True) if value is None]
        raise UserError(f"{', '.join(missing)} missing: a run of several processes needs --coordinator HOST:PORT, "
                        "--processes N and --process I (or REIN_COORDINATOR, REIN_PROCESSES, REIN_PROCESS).")
    try:
        count, index = int(values[1]), int(values[2])
    except ValueError:
        raise UserError(f"--processes {values[1]!r} and --process {values[2]!r} must be whole numbers.") from None
    if not 0 <= index < count:
        raise UserError(f"--process must be from 0 to {count - 1}, not {index}.")
    return str(values[0]), count, index


def _tpu_hosts(environment: Mapping[str, str]) -> int:
    """Hosts of the Cloud TPU slice that the environment describes (1 if none)."""
    return len([host for host in environment.get("TPU_WORKER_HOSTNAMES", "").split(",") if host]) or 1


def is_main() -> bool:
    """Process 0: the one that prints and writes reports."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Wait for all processes."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def all_agree(value: bool) -> bool:
    """True if it is true on every process."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return bool(np.all(multihost_utils.process_allgather(np.array([value]))))

"""A step's temporaries on a CPU host: mapped once, and free before the next step takes its own."""

import ctypes
import functools
import subprocess
import sys

import pytest

STEPS = """
import ctypes, resource, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: a page fault maps 4 KiB, whatever the machine's setting
from rein_jax import host_memory
if sys.argv[1] == "keep":
    host_memory.keep()
    host_memory._PATIENCE = 600.0  # a busy machine frees them late
import jax, jax.numpy as jnp

def step(state, x):  # 64 MB that a loop carries
    y = jax.lax.fori_loop(0, 2, lambda i, y: y * state + i, jnp.broadcast_to(x, (16, 2**20)))
    return state + 1, {"loss": y.sum()}

x, state = jnp.arange(2.0**20), jnp.float32(1)
program, used = host_memory.alone(jax.jit(step, donate_argnums=0).lower(state, x).compile()), []
temporaries = program.memory_analysis().temp_size_in_bytes
if sys.argv[1] == "keep":  # note what is in use whenever a run starts
    base, inner = host_memory._in_use(), program._program
    program._program = lambda *inputs: (used.append(host_memory._in_use() - base), inner(*inputs))[1]
for _ in range(8):  # until the heap stays as it is
    state, metrics = program(state, x)
jax.block_until_ready(metrics)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    state, metrics = program(state, x)
jax.block_until_ready(metrics)
last = resource.getrusage(resource.RUSAGE_SELF)
print(max(used, default=0), (last.ru_minflt - faults) / 10, temporaries, float(state))
"""


@functools.cache
def _run(mode):
    done = subprocess.run([sys.executable, "-c", STEPS, mode], capture_output=True, text=True, check=True)
    return tuple(float(word) for word in done.stdout.split())


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33 or newer")
def test_temporaries_stay_mapped_and_are_free_when_the_next_run_starts():
    used, faults, temporaries, state = _run("keep")
    _, usual, *_ = _run("no")
    assert temporaries > 2**26 and state == 19
    assert used < temporaries / 2
    assert faults < usual / 2 and usual * 4096 > temporaries / 2


def test_without_keep_the_program_is_left_alone():
    *_, state = _run("no")
    assert state == 19

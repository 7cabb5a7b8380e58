"""A step's temporaries on a CPU host: in one place, whoever compiles and however often it runs."""

import ctypes
import subprocess
import sys

import pytest

STEPS = """
import resource, sys
from rein_jax import host_memory
if sys.argv[1] == "keep":
    host_memory.keep()
import jax, jax.numpy as jnp

def step(state, x):  # 256 MB that a loop carries
    y = jax.lax.fori_loop(0, 2, lambda i, y: y * state + i, jnp.broadcast_to(x, (64, 2**20)))
    return state + 1, {"loss": y.sum()}

x, state = jnp.arange(2.0**20), jnp.float32(1)
program = host_memory.alone(jax.jit(step, donate_argnums=0).lower(state, x).compile())
state, metrics = program(state, x)
jax.block_until_ready(metrics)
first, faults = (lambda u: (u.ru_maxrss, u.ru_minflt))(resource.getrusage(resource.RUSAGE_SELF))
for _ in range(10):
    state, metrics = program(state, x)
jax.block_until_ready(metrics)
last = resource.getrusage(resource.RUSAGE_SELF)
print(last.ru_maxrss / first, (last.ru_minflt - faults) / 10, program.memory_analysis().temp_size_in_bytes, float(state))
"""


def _run(mode):
    done = subprocess.run([sys.executable, "-c", STEPS, mode], capture_output=True, text=True, check=True)
    return (float(word) for word in done.stdout.split())


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33 or newer")
def test_temporaries_stay_mapped_and_in_one_place():
    growth, faults, temporaries, state = _run("keep")
    assert temporaries > 2**28 and state == 12
    assert growth < 2.2  # a small thing that lies in the way costs a second block; never one a run
    assert faults * 4096 < temporaries / 2


def test_without_keep_the_program_is_left_alone():
    *_, state = _run("no")
    assert state == 12

"""Shared test set-up: exact matrix products, one CPU device unless a test process asks for more, and recorded cases."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile hundreds of tiny programs and run each once: compile them three times faster, at the cost of slower code.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

import hypothesis
import pytest

from tests.recorded import arrays

# The same examples in every run, however long drawing them takes.
hypothesis.settings.register_profile(
    "same", derandomize=True, database=None, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("same")


@pytest.fixture(autouse=True, scope="session")
def exact_matmul():
    import jax

    jax.config.update("jax_default_matmul_precision", "highest")


@pytest.fixture
def registries():
    """What a test registers is gone after it."""
    from rein_jax.public.register import KINDS

    before = {kind: dict(registry) for kind, registry in KINDS.items()}
    yield
    for kind, registry in KINDS.items():
        registry.clear()
        registry.update(before[kind])


@pytest.fixture(scope="session")
def fixture_case():
    """fixture_case("head_small", "outputs") -> dict of arrays of a recorded case; "weights" are made from the case's seed."""
    return arrays

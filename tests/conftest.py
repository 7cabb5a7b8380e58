"""Shared test set-up: exact matrix products, one CPU device unless a test process asks for more, and the fixture folder."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile hundreds of tiny programs and run each once: compile them three times faster, at the cost of slower code.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

import numpy as np
import pytest

FIXTURES = Path(__file__).parent / "fixtures"
SHARED = Path(__file__).parent.parent.parent / "shared" / "fixtures"  # larger cases, where the workplace has them


@pytest.fixture(autouse=True, scope="session")
def exact_matmul():
    import jax

    jax.config.update("jax_default_matmul_precision", "highest")


@pytest.fixture(scope="session")
def fixture_case():
    """fixture_case("head_small", "outputs") -> dict of arrays of tests/fixtures/head_small/outputs.npz."""

    def read(case: str, part: str) -> dict[str, np.ndarray]:
        with np.load(case_folder(case) / f"{part}.npz") as file:
            return dict(file)

    return read


def case_folder(case: str) -> Path:
    """Folder of a recorded case: the repository's, or for the larger ones ../shared; the test is skipped where neither has it."""
    for folder in (FIXTURES / case, SHARED / case):
        if folder.is_dir():
            return folder
    pytest.skip(f"the recorded case {case} is not in this clone (size) and ../shared is not here")

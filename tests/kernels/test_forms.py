"""Every operation with several forms has a reference, and tests that go through all of them."""

import importlib
from pathlib import Path

import pytest

import rein_jax.kernels

MODULES = [path.stem for path in sorted(Path(rein_jax.kernels.__file__).parent.glob("*.py")) if path.stem != "__init__"]
WITH_FORMS = [name for name in MODULES if hasattr(importlib.import_module(f"rein_jax.kernels.{name}"), "FORMS")]


def test_operations_with_forms_are_found():
    assert {"attention", "deformable", "selection"} <= set(WITH_FORMS)


@pytest.mark.parametrize("name", WITH_FORMS)
def test_every_form_is_tested(name):
    forms = importlib.import_module(f"rein_jax.kernels.{name}").FORMS
    assert "reference" in forms and len(forms) > 1
    test = Path(__file__).parent / f"test_{name}.py"
    assert test.exists(), f"add {test.name}, which holds every form of {name} to its reference"
    assert "FORMS" in test.read_text(encoding="utf-8"), f"{test.name} does not go through FORMS"

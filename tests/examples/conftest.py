"""The scripts of examples/, imported as their readers run them; what they register is gone afterwards."""

import importlib
import sys
from pathlib import Path

import pytest

from rein_jax.public.register import KINDS

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch, tmp_path):
    """example("own_loop") is the module; the current folder is empty."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    before = {kind: dict(registry) for kind, registry in KINDS.items()}
    yield importlib.import_module
    for kind, registry in KINDS.items():
        registry.clear()
        registry.update(before[kind])
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(EXAMPLES)):
            del sys.modules[name]

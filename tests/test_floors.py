"""Imports only go down the floors of ARCHITECTURE.md; read from the source text, so that lazy imports count too."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Longest prefix wins. An import may reach its own floor or a lower one.
FLOORS = {
    "rein_jax": 0,  # rein_jax/__init__.py: public names resolved lazily by string
    "rein_jax.errors": 0, "rein_jax.platforms": 0, "rein_jax.registry": 0, "rein_jax.trees": 0,
    "rein_jax.precision": 0, "rein_jax.sharding": 0,
    "rein_jax.layers": 1, "rein_jax.weights.rules": 1,
    "rein_jax.layers.stack": 2, "rein_jax.adapters": 2,
    "rein_jax.weights": 3, "rein_jax.backbones": 3,
    "rein_jax.heads": 4, "rein_jax.losses": 4, "rein_jax.augment": 4,
    "rein_jax.segmenter": 5, "rein_jax.optim": 5, "rein_jax.config_check": 5, "rein_jax.weights.official": 5,
    "rein_jax.build": 6, "rein_jax.config_io": 6, "rein_jax.training": 6, "rein_jax.evaluation": 6, "configs": 6,
    "rein_jax.bench": 7, "rein_jax.cli": 7, "rein_jax.predict": 7, "rein_jax.export": 7, "rein_jax.serve": 7,
    "rein_jax.experiments": 7,
}  # fmt: skip


def floor(module: str) -> int | None:
    parts = module.split(".")
    for n in range(len(parts), 0, -1):
        if ".".join(parts[:n]) in FLOORS:
            return FLOORS[".".join(parts[:n])]
    return None


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def sources(*folders: str) -> list[Path]:
    return sorted(p for folder in folders for p in (ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", sources("rein_jax", "configs"), ids=module_of)
def test_imports_go_down(path):
    here = floor(module_of(path))
    assert here is not None, f"{module_of(path)} stands on no floor; add it to FLOORS and to ARCHITECTURE.md"
    for target in imports(path):
        if target.split(".")[0] in ("rein_jax", "configs"):
            assert floor(target) <= here, f"{module_of(path)} (floor {here}) imports {target} (floor {floor(target)})"


def test_data_pipelines_stand_alone():
    for path in sources("data_pipelines"):
        heads = {target.split(".")[0] for target in imports(path)}
        assert not heads & {"jax", "flax", "optax", "orbax", "rein_jax", "configs"}, path


def test_no_torch_or_tensorflow():
    for path in sources("rein_jax", "data_pipelines", "configs"):
        heads = {target.split(".")[0] for target in imports(path)}
        assert not heads & {"torch", "torchvision", "tensorflow", "mmcv", "mmseg"}, path

"""Imports only go down the floors of ARCHITECTURE.md; read from the source text, so that imports inside functions count too."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A room (a folder, or a file at the top of rein_jax) imports itself and rooms of lower floors, nothing else. So there is no circle.
FLOORS = {
    "rein_jax.errors": 0, "rein_jax.peers": 0,
    "rein_jax.registry": 1, "rein_jax.trees": 1, "rein_jax.host_memory": 1, "rein_jax.distributed": 1, "rein_jax.weight_rules": 1,
    "rein_jax.kinds": 1, "rein_jax.kernels": 1,
    "rein_jax": 2,  # rein_jax/__init__.py: public names, resolved by string when they are used
    "rein_jax.precision": 2, "rein_jax.sharding": 2, "rein_jax.components": 2, "rein_jax.layers": 2, "rein_jax.augment": 2,
    "rein_jax.metrics": 2,
    "rein_jax.adapters": 3, "rein_jax.weights": 3,
    "rein_jax.backbones": 4,
    "rein_jax.heads": 5, "rein_jax.losses": 5, "rein_jax.reporting": 5,
    "rein_jax.segmenter": 6, "rein_jax.optim": 6, "rein_jax.interop": 6,
    "rein_jax.configuration": 7,
    "rein_jax.datasets": 8,
    "rein_jax.build": 9, "rein_jax.data": 9,
    "rein_jax.training": 10, "rein_jax.evaluation": 10,
    "rein_jax.planning": 11, "rein_jax.predict": 11, "rein_jax.export": 11,
    "rein_jax.public": 12,
    "rein_jax.run": 13,
    "rein_jax.serve": 14, "rein_jax.experiments": 14, "rein_jax.bench": 14,
    "rein_jax.cli": 15,
    "rein_jax.__main__": 16,
}  # fmt: skip


def room(module: str) -> str:
    """The room that a module, or a name in one, belongs to."""
    first = ".".join(module.split(".")[:2])
    folder = ROOT / first.replace(".", "/")
    return first if folder.is_dir() or folder.with_suffix(".py").exists() else module.split(".")[0]


def executed(tree: ast.AST):
    """Every node but those that only type checkers read."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from executed(node)


def imports(path: Path) -> set[str]:
    found = set()
    for node in executed(ast.parse(path.read_text(encoding="utf-8"))):
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


@pytest.mark.parametrize("path", sources("rein_jax"), ids=module_of)
def test_imports_go_down(path):
    here = room(module_of(path))
    assert here in FLOORS, f"{here} stands on no floor; add it to FLOORS and to ARCHITECTURE.md"
    for target in imports(path):
        if target.split(".")[0] == "rein_jax" and room(target) != here:
            assert FLOORS[room(target)] < FLOORS[here], f"{module_of(path)} (floor {FLOORS[here]}) imports {target}"


def test_nobody_imports_the_configs():
    """Configs are experiments: the library finds one by its file's name and imports none."""
    for path in sources("rein_jax", "data_pipelines"):
        assert not {target for target in imports(path) if target.split(".")[0] == "configs"}, path


def test_configs_import_the_library_only_from_below_the_trainer():
    for path in sources("configs"):
        for target in imports(path):
            if target.split(".")[0] == "rein_jax":
                assert FLOORS[room(target)] <= FLOORS["rein_jax.configuration"], f"{path.name} imports {target}"


def test_architecture_names_every_room():
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    folders = {path.parent.relative_to(ROOT) for path in sources("rein_jax", "data_pipelines", "configs")} - {Path("rein_jax")}
    files = {path.stem for path in (ROOT / "rein_jax").glob("*.py")} - {"__init__"}
    missing = [str(folder) for folder in folders if f"`{folder}/`" not in table] + [f for f in files if f"`{f}`" not in table]
    assert not missing, f"ARCHITECTURE.md's table of rooms lacks {sorted(missing)}"
    shown = re.findall(r"^\| (\d+) \| (.*?) \|", page, re.M)
    for name, floor in FLOORS.items():
        if name != "rein_jax":
            short = name.removeprefix("rein_jax.")
            found = [number for number, rooms in shown if f"`{name.replace('.', '/')}/`" in rooms or f"`{short}`" in rooms]
            assert found == [str(floor)], f"ARCHITECTURE.md shows {name} on floor {found or 'none'}, tests/test_floors.py on {floor}"


def test_only_kernels_ask_for_the_platform():
    """Layers, heads, losses and backbones call operations, which have forms for platforms; `compiling_for` may be used anywhere."""
    for path in sources("rein_jax"):
        if room(module_of(path)) != "rein_jax.kernels":
            named = {target for target in imports(path) if target == "rein_jax.kernels.platforms.target"}
            called = {node.lineno for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
                      and "target" in (getattr(node.func, "id", None), getattr(node.func, "attr", None)) and not node.args}
            assert not named and not called, f"{path} asks for the platform in line {sorted(called)}; give the operation a form in kernels/"


def test_data_pipelines_stand_alone():
    for path in sources("data_pipelines"):
        heads = {target.split(".")[0] for target in imports(path)}
        assert not heads & {"jax", "flax", "optax", "orbax", "rein_jax", "configs"}, path


def test_no_torch_or_tensorflow():
    for path in sources("rein_jax", "data_pipelines", "configs"):
        heads = {target.split(".")[0] for target in imports(path)}
        assert not heads & {"torch", "torchvision", "tensorflow", "mmcv", "mmseg"}, path

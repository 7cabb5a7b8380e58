"""The public names: cheap to import, all there, documented; and nothing private in what people read and copy."""

import ast
import dataclasses
import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rein_jax as rj

ROOT = Path(__file__).parents[2]
SUBPACKAGES = ("adapters", "backbones", "data", "export", "heads", "losses")
PUBLIC = {"rein_jax": rj, **{f"rein_jax.{name}": getattr(rj, name) for name in SUBPACKAGES}}
NAMES = [(package, name) for package, module in PUBLIC.items() for name in module.__all__]


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, rein_jax; print(*{'jax', 'jaxlib', 'flax', 'numpy', 'optax', 'cv2', 'grain', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert not done.stdout.strip(), f"import rein_jax also imports {done.stdout}"


def test_subpackages_that_are_public_are_said_to_be():
    modules = {name for name in rj.__all__ if inspect.ismodule(getattr(rj, name))}
    assert modules == set(SUBPACKAGES)
    assert all(f"`{name}`" in rj.__doc__ for name in SUBPACKAGES)


@pytest.mark.parametrize("package, name", NAMES, ids=lambda text: text)
def test_a_public_name_resolves_and_is_documented(package, name):
    thing = getattr(PUBLIC[package], name)
    assert not name.startswith("_")
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        return
    doc = inspect.getdoc(thing) or ""
    assert doc, f"{package}.{name} has no docstring"
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return
    target = thing.__init__ if inspect.isclass(thing) else thing
    takes = [p for p in inspect.signature(target).parameters if p not in ("self", "args", "kwargs")]
    fields = dataclasses.is_dataclass(thing) or hasattr(thing, "_fields")
    if takes or fields:
        assert re.search(r"^(Args|Attributes)\b.*:$", doc, re.M), f"the docstring of {package}.{name} has no Args"
    if inspect.isfunction(thing) and inspect.signature(thing).return_annotation not in (None, "None", inspect.Signature.empty):
        assert "Returns:" in doc, f"the docstring of {package}.{name} has no Returns"


def python_of(path: Path) -> str:
    """The Python in a script, a page's blocks or a notebook's cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    if path.suffix == ".ipynb":
        return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))


def read_by_people() -> list[str]:
    """Scripts, notebooks, and the pages that show Python."""
    paths = [path for pattern in ("examples/**/*.py", "notebooks/*.ipynb", "*.md", "docs/**/*.md") for path in sorted(ROOT.glob(pattern))]
    return [str(path.relative_to(ROOT)) for path in paths if python_of(path).strip()]


def strangers(code: str) -> list[str]:
    """What code imports or reaches of this package's that is not public."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if ours(a.name) and not (a.name == "rein_jax" and a.asname in (None, "rj"))]
        elif isinstance(node, ast.ImportFrom) and ours(node.module):
            public = importlib.import_module(node.module).__all__ if node.module in PUBLIC else ()
            found += [f"{node.module}.{a.name}" for a in node.names if a.name not in public]
        elif isinstance(node, ast.Attribute):
            chain = ast.unparse(node).split(".")
            if re.fullmatch(r"_(?!_).*", node.attr):
                found.append(ast.unparse(node))
            if chain[0] in ("rj", "rein_jax"):
                package = ".".join(["rein_jax", *chain[1:-1]])
                if package in PUBLIC and chain[-1] not in PUBLIC[package].__all__:
                    found.append(ast.unparse(node))
    return found


def ours(module: str | None) -> bool:
    return (module or "").split(".")[0] in ("rein_jax", "data_pipelines", "configs")


@pytest.mark.parametrize("path", read_by_people())
def test_what_people_read_uses_public_names_alone(path):
    assert not strangers(python_of(ROOT / path))


def test_the_main_pages_are_among_what_is_read():
    assert {"README.md", "docs/library.md", "docs/extending.md", "notebooks/quickstart.ipynb", "examples/use.py"} <= set(read_by_people())


def test_strangers_are_found():
    assert strangers("import rein_jax as rj\nrj.Segmenter.from_pretrained('x').predict(rj.data.open('streets'))") == []
    for slip in ("from rein_jax.run import train", "import rein_jax.run", "rj.build", "rj.data.Photometric", "model._options",
                 "from data_pipelines import open_source", "from rein_jax.heads import base"):
        assert strangers(slip), slip

"""The documentation builds strictly, with every public name in it, and links between files of the repository become links of the site."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

griffe = pytest.importorskip("griffe", reason="needs the extra docs")
pytest.importorskip("mkdocs", reason="needs the extra docs")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scripts():
    """The modules that the build uses."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import docs_griffe
        import docs_hooks
        import docs_reference
        yield SimpleNamespace(hooks=docs_hooks, reference=docs_reference, griffe=docs_griffe)
    finally:
        sys.path.remove(str(ROOT / "scripts"))


def test_the_site_builds_strictly(tmp_path):
    where = ["--config-file", str(ROOT / "mkdocs.yml"), "--site-dir", str(tmp_path)]
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", *where]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=quiet, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in ("index.html", "faq/index.html", "evidence/index.html", "reference/adapters/index.html", "search/search_index.json"):
        assert (tmp_path / page).exists()
    text = (tmp_path / "reference/index.html").read_text(encoding="utf-8")
    assert 'id="rein_jax.Segmenter.predict"' in text and "fonts.googleapis" not in text


def test_names_without_a_docstring_are_found(scripts):
    code = '''
class Base:
    """Documented."""
    def seen(self): "Said here."
    def hidden(self): pass
    def _private(self): pass
class Child(Base):
    """Documented."""
    def seen(self): pass
def bare(): pass
'''
    modules = griffe.ModulesCollection()
    module = modules["module"] = griffe.visit("module", filepath=Path("module.py"), code=code, modules_collection=modules)
    found = {name: list(scripts.reference.undocumented(name, module[name])) for name in ("Base", "Child", "bare")}
    assert found == {"Base": ["Base.hidden"], "Child": [], "bare": ["bare"]}


def test_links_become_those_of_the_site(scripts):
    page = SimpleNamespace(file=SimpleNamespace(src_uri="howto/evaluate.md"))
    files = SimpleNamespace(src_uris={"speed.md": None, "evidence.md": None})
    config = SimpleNamespace(repo_url="https://example.org/rein_jax")

    def mended(text):
        return scripts.hooks.on_page_markdown(text, page, config, files)

    assert mended("[a](../speed.md#tpu)") == "[a](../speed.md#tpu)"
    assert mended("[a](../../benchmarks/generalisation/RESULTS.md)") == "[a](../evidence.md)"
    assert mended("[a](../../configs/folder.py)") == "[a](https://example.org/rein_jax/blob/main/configs/folder.py)"
    assert mended("[a](../../configs)") == "[a](https://example.org/rein_jax/tree/main/configs)"
    for unchanged in ("[a](../absent.md)", "[a](../../absent.py)", "[a](https://jax.dev)", "[a](#here)", "[a][rein_jax.load]"):
        assert mended(unchanged) == unchanged


def test_examples_of_docstrings_are_code(scripts):
    text = "What for.\n\nExample:\n    x = a[0][1]\n\n    y = 1\n\nArgs:\n    z: a number."
    assert scripts.griffe.EXAMPLE.sub(scripts.griffe.fenced, text).split("Args")[0] == (
        "What for.\n\nExample:\n    ```python\n    x = a[0][1]\n\n    y = 1\n    ```\n")

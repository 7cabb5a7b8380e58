"""What a type checker says of code that uses the library: nothing."""

import pytest

from tests.examples.conftest import EXAMPLES

mypy = pytest.importorskip("mypy.api")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("mypy"))


def test_examples_are_typed(cache, monkeypatch):
    monkeypatch.chdir(EXAMPLES.parent)
    report, errors, code = mypy.run(["--cache-dir", cache])
    assert code == 0, report + errors


def test_types_reach_the_caller(cache, tmp_path, monkeypatch):
    """A slip in the use of public names is found, so they are not all Any."""
    slip = tmp_path / "slip.py"
    slip.write_text("""import rein_jax as rj

model = rj.Segmenter.from_pretrained("runs/mine")
reveal_type(model.predict("street.jpg").labels)
reveal_type(rj.data.open)
model.predict(["a.jpg"]).overlay()
rj.trainable(3)
""")
    monkeypatch.chdir(EXAMPLES.parent)
    report, _, _ = mypy.run(["--cache-dir", cache, "--config-file", "pyproject.toml", str(slip)])
    found = [line.partition("slip.py:")[2] for line in report.splitlines() if "slip.py" in line]
    assert "ndarray" in found[0] and "def (" in found[1]
    assert "has no attribute \"overlay\"" in found[2] and "incompatible type \"int\"" in found[3]

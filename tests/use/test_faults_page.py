"""Every row of docs/faults.md names tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/faults.md"
TEST = re.compile(r"(tests/[\w/]+\.py)::(\w+)")


def rows() -> list[str]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return [line for line in lines if not line.startswith(("| what happens", "|---"))]


@pytest.mark.parametrize("row", rows())
def test_each_row_has_its_test(row):
    assert len(re.split(r"(?<!\\)\|", row.strip("|"))) == 3, "three cells: what happens, what rein_jax does, test"
    named = TEST.findall(row)
    assert named, "no test is named"
    for path, name in named:
        assert re.search(rf"^\s*def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.M), f"{path} has no {name}"

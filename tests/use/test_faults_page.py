"""Every row of docs/faults.md names tests that exist."""

import functools
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/faults.md"
TEST = re.compile(r"(tests/[\w/]+\.py)::(\w+)")


def rows() -> list[str]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return [line for line in lines if not line.startswith(("| what happens", "|---"))]


def fault_of(row: str) -> str | None:
    """What is wrong with a row, or None."""
    if len(re.split(r"(?<!\\)\|", row.strip("|"))) != 3:
        return "it has not three cells: what happens, what rein_jax does, test"
    named = TEST.findall(row)
    absent = [f"{path}::{name}" for path, name in named if not re.search(rf"^\s*def {name}\(", source(path), re.M)]
    return f"there is no {absent[0]}" if absent else None if named else "it names no test"


@functools.cache
def source(path: str) -> str:
    file = ROOT / path
    return file.read_text(encoding="utf-8") if file.exists() else ""


def test_each_row_has_its_test():
    found = rows()
    assert len(found) > 400
    assert not {row: fault for row in found if (fault := fault_of(row))}

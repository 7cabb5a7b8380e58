"""The numbers of benchmarks/generalisation/RESULTS.md are those of results.json."""

import importlib.util
import json
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "benchmarks" / "generalisation"


def test_the_page_holds_the_recorded_numbers():
    spec = importlib.util.spec_from_file_location("collect", FOLDER / "collect.py")
    collect = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(collect)
    page = (FOLDER / "RESULTS.md").read_text(encoding="utf-8")
    shown = page[page.index(collect.START) + len(collect.START):page.index(collect.END)]
    assert shown.strip() == collect.tables(json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))).strip()

"""What a repository shows to contributors: workflows and templates are valid, name files that exist, and agree with pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FORMS = sorted([*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff"])
PAGES = [ROOT / f"{name}.md" for name in ("CONTRIBUTING", "CHANGELOG", "CODE_OF_CONDUCT", "SECURITY", "ARCHITECTURE")]


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_forms_are_valid_and_name_files_that_exist(path):
    assert isinstance(read(path), dict)
    named = re.findall(r"\b(?:scripts|tests)/[\w/]+\.(?:sh|py)\b", path.read_text(encoding="utf-8"))
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_stated_version_of_python_is_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stated = [entry.rpartition(" ")[2] for entry in project["classifiers"] if entry.startswith("Programming Language :: Python :: 3")]
    assert read(ROOT / ".github/workflows/tests.yml")["jobs"]["tests"]["strategy"]["matrix"]["python"] == stated
    assert project["requires-python"] == f">={stated[0]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_are_linked_exist(page):
    targets = re.findall(r"\]\((?!\w+:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert not [target for target in targets if not (ROOT / target).exists()]

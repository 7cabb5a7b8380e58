"""A finished run of the stand-in, as the module's own `go(workdir)` trains it, and copies of it to spoil."""

import shutil

import pytest


@pytest.fixture(scope="module")
def finished(request, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished") / "run"
    request.module.go(workdir)
    return workdir


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(finished, tmp_path / "run")

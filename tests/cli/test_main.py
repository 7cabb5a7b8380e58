"""What `rein` answers when the place to write, or the reader of what it prints, is gone."""

import os
import sys

import pytest

from rein_jax import registry
from rein_jax.cli.main import main


@pytest.mark.parametrize("command, code", [("train", 75), ("show", 0)])
def test_a_reader_that_goes_away(monkeypatch, command, code):
    """A training did not end well because nobody listens; what only prints did."""

    def broken(argv):
        raise BrokenPipeError

    monkeypatch.setattr(registry, "load", lambda *a: broken)
    monkeypatch.setattr(os, "dup2", lambda *a: None)
    with open(os.devnull, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        monkeypatch.setattr(os, "open", lambda *a: gone.fileno())
        assert main([command]) == code


def test_a_place_that_cannot_be_written(capsys, monkeypatch):
    monkeypatch.setattr(registry, "load", lambda *a: lambda argv: open("/proc/foo/x", "w"))
    assert main(["tables"]) == 2
    assert "rein tables: /proc/foo/x: No such file or directory" in capsys.readouterr().err

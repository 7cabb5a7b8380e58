"""Docstrings as the site shows them: what stands under `Example:` is code."""

from __future__ import annotations

import re

import griffe

EXAMPLE = re.compile(r"^Example:\n((?:[ \t]+\S.*\n?|[ \t]*\n)+)", re.M)


class Examples(griffe.Extension):
    """Fences the code of every `Example:` section."""

    def on_instance(self, *, obj: griffe.Object, **kwargs) -> None:
        """Called for every object that has been read."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(fenced, obj.docstring.value)


def fenced(found: re.Match) -> str:
    """The section with its lines as a block of Python."""
    return f"Example:\n    ```python\n{found[1].rstrip()}\n    ```\n"

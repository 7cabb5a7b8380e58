"""A part of a source, for evaluations while a model trains."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from data_pipelines.source import version


class Sample:
    """At most `images` elements of a source, evenly spaced; everything else is the source's."""

    def __init__(self, source: Any, images: int):
        self.source = source
        self.indices = np.linspace(0, len(source) - 1, min(images, len(source))).round().astype(int).tolist()

    def __getattr__(self, name: str) -> Any:
        if name == "source":  # not there yet while a copy is being made
            raise AttributeError(name)
        return getattr(self.source, name)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return self.source[self.indices[i]]

    def read(self, i: int) -> dict[str, Any]:
        """Element i itself, whatever the source's policy."""
        return self.source.read(self.indices[i])

    def entry_name(self, i: int) -> str:
        """Name of element i, without reading it."""
        return self.source.entry_name(self.indices[i])

    def fingerprint(self) -> str:
        """Hash of the source's fingerprint and of what was chosen."""
        return hashlib.sha256(repr((self.source.fingerprint(), self.indices)).encode()).hexdigest()

    def version(self) -> str:
        """Hash of the source's version and of what was chosen."""
        return hashlib.sha256(repr((version(self.source), self.indices)).encode()).hexdigest()

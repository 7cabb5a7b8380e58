"""Generated street scenes for people without an image of their own; drawn when first asked for, kept in memory."""

from __future__ import annotations

import threading

from data_pipelines import open_source
from rein_jax.predict.outputs import png

STYLES = ("clear", "night", "fog", "rain", "snow", "city")


class Samples:
    """One scene a style, PNG of 256x512."""

    def __init__(self) -> None:
        self.made: dict[int, bytes] = {}
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return len(STYLES)

    def png(self, number: int) -> bytes:
        """Encoded scene."""
        with self.lock:
            if number not in self.made:
                source = open_source("streets", style=STYLES[number], split="test", length=number + 1)
                self.made[number] = png(source[number]["image"])
            return self.made[number]

"""A data set of one's own: anything with a length whose elements are an image and a label."""

from __future__ import annotations

import numpy as np

import rein_jax as rj


@rj.register("dataset", "stripes")
class Stripes:
    """Dark and light stripes; `width` is an option that configs may set."""

    classes = ("dark", "light")

    def __init__(self, split: str = "train", *, width: int = 8):
        self.length = {"train": 16, "val": 4}[split]
        self.label = np.tile(np.arange(64, dtype=np.uint8) // width % 2, (64, 1))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """{"image": uint8 [H, W, 3] RGB, "label": integer [H, W], 255 where nothing counts}; depends on nothing but the index."""
        noise = np.random.default_rng(index).integers(0, 50, (64, 64, 3), dtype=np.uint8)
        return {"image": noise + 150 * self.label[..., None], "label": self.label}

"""What `Segmenter.predict` returns for one image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from data_pipelines.labels import ClassInfo
from data_pipelines.paths import local_path
from rein_jax.predict import outputs
from rein_jax.predict.maps import Maps


class Segmentation:
    """The classes of every pixel of one image.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        labels: uint8 [H, W], indices into `classes`.
        classes: names and colours.

    Example:
        result = model.predict("street.jpg")
        result.labels[100, 200], result.classes.names[result.labels[100, 200]]
        result.save("out", "street")                               # out/labels/street.png, out/overlay/street.png
    """

    def __init__(self, image: np.ndarray, labels: np.ndarray, classes: ClassInfo, maps: Callable[[str], np.ndarray], name: str = "image"):
        self.image, self.labels, self.classes, self.name = image, labels, classes, name
        self._maps = maps

    @cached_property
    def scores(self) -> np.ndarray:
        """Scores of the classes, float32 [H, W, K]; the larger the likelier. Computed when first asked for: they are large."""
        return self._maps("scores")

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Probabilities of the classes, float16 [H, W, K]. Computed when first asked for."""
        return self._maps("probabilities")

    @cached_property
    def confidence(self) -> np.ndarray:
        """Probability of the decided class, float32 [H, W]."""
        return self.probabilities.astype(np.float32).max(-1)

    @property
    def shares(self) -> dict[str, float]:
        """{class: its share of the image's pixels}, of the classes that occur, the largest first."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.classes))
        return {self.classes.names[k]: counts[k] / self.labels.size for k in np.argsort(-counts, kind="stable") if counts[k]}

    def overlay(self, opacity: float = 0.6) -> np.ndarray:
        """The class colours over the image: uint8 [H, W, 3], RGB."""
        return outputs.overlay(self.image, self.labels, outputs.style(self.classes, opacity=opacity))

    def save(self, out: str | Path, name: str | None = None, *, saves: Sequence[str] = ("labels", "overlay"), ids: str = "train",
             opacity: float = 0.6) -> list[Path]:
        """Writes pictures of the result, as `rein predict` does.

        Args:
            out: folder; each kind gets a folder of its own in it.
            name: of the files without suffix (default: the image's).
            saves: among labels (PNG), overlay (PNG), probabilities (.npz).
            ids: what a label PNG holds: "train", "labels" (Cityscapes ids) or numbers joined by commas.
            opacity: of the colours in the overlay.

        Returns:
            The files.

        Raises:
            UserError: an unknown kind, or a file that cannot be written.
        """
        kinds = ("labels", "overlay", "probabilities")
        outputs.check_saves(saves, kinds)
        maps = Maps(None, self.labels, probabilities=self.probabilities if "probabilities" in saves else None)
        style = outputs.style(self.classes, ids=ids, opacity=opacity)
        return outputs.write(local_path(out), name or self.name, self.image, maps, saves, style)

    def __repr__(self) -> str:
        largest = ", ".join(f"{name} {share:.0%}" for name, share in list(self.shares.items())[:3])
        return f"<Segmentation of {self.name}: {self.labels.shape[1]}x{self.labels.shape[0]}, {largest}>"

"""The source `streets`: element i is a street, fully determined by seed, split, style and i."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.labels import CITYSCAPES
from data_pipelines.spelling import did_you_mean
from data_pipelines.streets.render import render
from data_pipelines.streets.scenery import set_stage
from data_pipelines.streets.world import sample_scene

STYLES = ("clear", "night", "fog", "rain", "snow", "city")
SPLITS = {"train": 1, "val": 2, "test": 3}
LENGTHS = {"train": 2000, "val": 200, "test": 200}
EDITIONS = (1, 2)  # a change of the pictures is a new edition: caches and resumed runs notice, earlier results can be repeated


class Streets:
    """Street scenes seen from a car, with exact labels of the 19 Cityscapes classes (255 = void).

    style: `clear`, `night`, `fog`, `rain`, `snow` show the same scenes in other light and weather (element i has the same label
        map in all five); `city` is another place: other facades, materials, trees, lens, height and tilt of the camera.
    split: `train`, `val`, `test` never share a scene; length: by default 2000, 200, 200 (element i does not depend on it).
    size: (height, width) in pixels; the horizontal field of view stays the same.
    seed: another seed is another set of scenes.
    edition: 2, or 1 for the pictures as first published (brighter pavements and fences, the gaps of leafless trees labelled as
        what lies behind); same scenes.

    Reading is thread-safe and depends on nothing but (edition, seed, split, style, size, index). Raises DataError for options that do
    not exist. The world and its parameters are described in `data_pipelines.streets`.
    """

    name = "streets"
    classes = CITYSCAPES

    def __init__(
        self,
        style: str = "clear",
        split: str = "train",
        length: int | None = None,
        size: tuple[int, int] = (256, 512),
        seed: int = 0,
        edition: int = 2,
    ):
        _check("style", style, STYLES)
        _check("split", split, SPLITS)
        length = LENGTHS[split] if length is None else length
        if not _whole(length, 1):
            raise DataError(f"streets: length must be a positive whole number, not {length!r}.")
        if np.shape(size) != (2,) or not all(_whole(n, 32) for n in size):
            raise DataError(f"streets: size must be (height, width) in whole pixels, each at least 32, not {size!r}.")
        if not _whole(seed, 0):
            raise DataError(f"streets: seed must be a whole number, 0 or more, not {seed!r}.")
        if edition not in EDITIONS:
            raise DataError(f"streets: edition must be one of {EDITIONS}, not {edition!r}.")
        self.edition = int(edition)
        self.style, self.split, self.length, self.seed = style, split, int(length), int(seed)
        self.size = (int(size[0]), int(size[1]))

    @property
    def domain(self) -> str:
        return self.style

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        index = int(index)
        if not 0 <= index < self.length:
            raise IndexError(f"streets: element {index} of {self.length}.")
        world = "city" if self.style == "city" else "town"
        key = [self.seed, SPLITS[self.split], ("town", "city").index(world), index]
        layout, paint = _generator(*key, 0), _generator(*key, 1)
        look = _generator(*key, 2, STYLES.index(self.style))
        scene = sample_scene(layout, world, self.size, self.edition)
        image, label = render(scene, set_stage(layout, scene), self.style, self.size, paint, look)
        return {"image": image, "label": label, "name": f"{self.split}_{self.style}_{self.seed}_{index:06d}"}

    def fingerprint(self) -> str:
        """Digest of everything that decides the elements."""
        facts = [self.edition, self.style, self.split, self.length, self.size, self.seed]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def _whole(value, least: int) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= least


def _check(what: str, value: str, known) -> None:
    if value not in known:
        raise DataError(f"streets: unknown {what} {value!r}.{did_you_mean(value, known)} Known: {', '.join(known)}.")

"""The list of things of a scene, painted far to near within each layer, and how a thing finds its place on the street."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from data_pipelines.streets.canvas import Canvas
from data_pipelines.streets.facades import Building
from data_pipelines.streets.solids import Frame
from data_pipelines.streets.world import Scene

BACKDROP, FRONTAGE, YARD, STREET = range(4)


@dataclass
class Stage:
    """The things of a scene: (layer, distance, paint(canvas, rng))."""

    things: list[tuple[int, float, Callable]] = field(default_factory=list)
    buildings: list[Building] = field(default_factory=list)

    def add(self, layer: int, distance: float, paint: Callable) -> None:
        self.things.append((layer, distance, paint))

    def paint(self, canvas, rng: np.random.Generator) -> None:
        for _, _, paint in sorted(self.things, key=lambda thing: (thing[0], -thing[1])):
            paint(canvas, rng)


def in_view(canvas: Canvas, point: np.ndarray, radius: float) -> bool:
    """Whether something within `radius` metres of a point can be in the picture (left and right only)."""
    x, _, z = canvas.camera.view(point)
    return z > 0.5 and abs(x) - radius < 1.05 * z * canvas.size[1] / (2 * canvas.camera.focal)


def frame_at(scene: Scene, u: float, s: float, turn: float = 0.0) -> Frame:
    """Frame of a thing at a place of the street, along the street plus a turn in radians."""
    return Frame(u + 0.5 * scene.bend * s * s, s, math.atan(scene.bend * s) + turn)


def stand(stage: Stage, scene: Scene, painter: Callable, u: float, s: float, turn: float, *rest, radius: float = 3.5) -> None:
    """Put a thing of some radius in metres on the street; it is painted where it can be seen."""
    frame = frame_at(scene, u, s, turn)

    def paint(canvas: Canvas, rng: np.random.Generator) -> None:
        if in_view(canvas, frame.origin, radius):
            painter(canvas, rng, frame, *rest)

    stage.add(STREET, s, paint)

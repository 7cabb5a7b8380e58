"""Trucks, buses, trams and trains."""

from __future__ import annotations

import numpy as np

from data_pipelines.streets.canvas import Canvas
from data_pipelines.streets.draws import pick
from data_pipelines.streets.solids import Frame, Sketch, box, disc, prism, rectangle
from data_pipelines.streets.vehicles import PAINTS, ends, frame_depth, ground_shadow, wheels

TRUCK, BUS, TRAIN = 14, 15, 16
LOADS = ((225, 226, 224), (190, 60, 40), (40, 80, 140), (200, 170, 60), (110, 120, 110), (160, 160, 165))
LIVERIES = ((200, 40, 36), (230, 200, 60), (225, 228, 226), (40, 90, 60), (36, 70, 140), (240, 130, 40), (110, 170, 190))
GLASS, CHASSIS, BLIND = np.array([40, 46, 54.0]), np.array([40.0, 40, 42]), np.array([30.0, 30, 26])


def truck(canvas: Canvas, rng: np.random.Generator, frame: Frame, moving: bool) -> None:
    """A lorry: a cab, and a box, an open bed or a tank behind it."""
    length, half, top = rng.uniform((6.5, 1.15, 2.9), (12, 1.27, 3.9))
    cab_paint = np.array(pick(rng, PAINTS)) * rng.uniform(0.9, 1.2)
    load = np.array(pick(rng, LOADS)) * rng.uniform(0.75, 1.05)
    sketch = Sketch(canvas, frame, canvas.number(TRUCK, frame_depth(canvas, frame)))
    ground_shadow(canvas, frame, half, length, 3.0)
    z0, z1, cab, cab_top = -length / 2, length / 2, rng.uniform(1.8, 2.3), min(top - 0.1, rng.uniform(2.4, 3.2))
    kind, stripe = rng.random(), rng.random(4)
    box(sketch, (-half * 0.85, 0.5, z0), (half * 0.85, 0.95, z1 - 0.1), CHASSIS)
    if sketch.end < 0:
        _cab(sketch, half * 0.96, z1 - cab, z1, cab_top, cab_paint)
    _load(sketch, kind, stripe, half, z0, z1 - cab - 0.25, top, load)
    if sketch.end > 0:
        _cab(sketch, half * 0.96, z1 - cab, z1, cab_top, cab_paint)
    wheels(sketch, half, (z0 + 1.1, z0 + 2.2, z1 - 1.2), 0.48)
    ends(sketch, rng, length, half, 1.2, moving)
    sketch.draw()


def _cab(sketch: Sketch, half: float, z0: float, z1: float, top: float, paint) -> None:
    profile = np.array([[z0, 0.45], [z0, top], [z1 - 0.35, top], [z1 - 0.12, 1.5], [z1, 1.3], [z1, 0.45]])
    prism(sketch, profile, half, [paint * 0.8, paint, GLASS, paint, paint * 0.92, paint * 0.3, paint])
    if abs(sketch.eye[0]) > half:
        sketch.on_side(half + 0.01, [(z0 + 0.7, 1.55), (z0 + 0.7, top - 0.3), (z1 - 0.5, top - 0.3), (z1 - 0.3, 1.55)], GLASS)


def _load(sketch: Sketch, kind: float, stripe, half: float, z0: float, z1: float, top: float, paint) -> None:
    if kind < 0.65:
        box(sketch, (-half, 0.95, z0), (half, top, z1), paint)
        if stripe[0] < 0.6 and abs(sketch.eye[0]) > half:
            sketch.on_side(half + 0.01, rectangle(z0 + 0.3, 1.5, z1 - 0.3, 2.2), 20 + 210 * stripe[1:], sketch.side_tone())
        if sketch.eye[2] < z0:
            sketch.on_end(z0 - 0.01, rectangle(-0.02, 1.0, 0.02, top - 0.1), paint * 0.6, sketch.end_tone())
            sketch.on_end(z0 - 0.01, rectangle(-half * 0.96, 0.98, half * 0.96, 1.08), paint * 0.5, sketch.end_tone())
    elif kind < 0.85:
        heap = np.array([[z0 + 0.3, 1.75], [z0 + 1.0, 2.2], [z1 - 1.0, 2.3], [z1 - 0.2, 1.75]])
        prism(sketch, heap, half * 0.9, np.tile(np.array([110, 92, 70.0]), (5, 1)))
        box(sketch, (-half, 0.95, z0), (half, 1.75, z1), paint * 0.9)
    else:
        box(sketch, (-half * 0.8, 1.0, z0), (half * 0.8, 2.75, z1), paint * 0.85)
        if sketch.eye[2] < z0 or sketch.eye[2] > z1:
            sketch.on_end(z0 if sketch.end < 0 else z1, disc((0.0, 1.9), 1.0), paint * 0.95, sketch.end_tone())


def bus(canvas: Canvas, rng: np.random.Generator, frame: Frame, moving: bool) -> None:
    """A city bus or coach, now and then a double-decker."""
    height = 4.3 if rng.random() < 0.2 else rng.uniform(2.9, 3.3)
    _carriage(canvas, rng, frame, moving, BUS, rng.uniform(9.5, 13), height)


def train(canvas: Canvas, rng: np.random.Generator, frame: Frame, moving: bool) -> None:
    """A tram or light train of two or three cars."""
    cars, length, seed = int(rng.integers(2, 4)), rng.uniform(9, 13), int(rng.integers(2**62))
    order = range(cars) if frame.local_eye(canvas)[2] > 0 else reversed(range(cars))
    for k in order:
        part = Frame(0, 0, 0)
        part.origin, part.axes = frame.world([0, 0, (k - (cars - 1) / 2) * (length + 0.3)]), frame.axes
        _carriage(canvas, np.random.Generator(np.random.Philox(seed)), part, moving, TRAIN, length, 3.5)


def _carriage(
    canvas: Canvas, rng: np.random.Generator, frame: Frame, moving: bool, label: int, length: float, height: float
) -> None:
    """A long box with rows of windows; the same shape serves buses and trams."""
    half, paint = 1.25, np.array(pick(rng, LIVERIES)) * rng.uniform(0.8, 1.05)
    second = np.array([230.0, 230, 226]) if rng.random() < 0.5 else paint * 0.6
    glass, slant, tints = np.array([36.0, 42, 50]) * rng.uniform(0.7, 1.5), rng.uniform(0.05, 0.5), rng.uniform(0.8, 1.25, 20)
    sketch = Sketch(canvas, frame, canvas.number(label, frame_depth(canvas, frame)))
    ground_shadow(canvas, frame, half, length, height)
    z0, z1 = -length / 2, length / 2
    profile = np.array([[z0, 0.35], [z0, height], [z1 - slant, height], [z1, 1.1], [z1, 0.35]])
    prism(sketch, profile, half, [paint, second * 0.9, paint * 0.95, paint * 0.8, paint * 0.3, paint])
    decks = ((1.25, 2.15), (2.65, 3.6)) if height > 4 else ((1.2, height - 0.55),)
    if abs(sketch.eye[0]) > half:
        tone, edges = sketch.side_tone(), np.linspace(z0 + 0.4, z1 - 0.5 - slant, int(length / 1.5))
        sketch.on_side(half + 0.01, rectangle(z0 + 0.05, 0.35, z1 - 0.05, 0.75), second, tone)
        for low, high in decks:
            for a, b, tint in zip(edges[:-1], edges[1:], tints, strict=False):
                sketch.on_side(half + 0.01, rectangle(a + 0.06, low, b - 0.06, high), glass * tint, tone)
        if label == BUS:
            wheels(sketch, half, (z0 + 2.4, z1 - 2.5), 0.48)
    if abs(sketch.eye[2]) > length / 2:
        z, tone = (length / 2 + 0.02) * sketch.end, sketch.end_tone()
        for low, high in decks:
            sketch.on_end(z, rectangle(-half * 0.92, low, half * 0.92, high), glass, tone)
        sketch.on_end(z, rectangle(-half * 0.6, height - 0.45, half * 0.6, height - 0.15), BLIND)
        ends(sketch, rng, length, half, 1.0, moving)
    sketch.draw()

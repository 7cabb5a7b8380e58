"""Cars as extruded solids with glass, wheels, lights and plates, and the parts that all vehicles share."""

from __future__ import annotations

import cv2
import numpy as np

from data_pipelines.streets.canvas import Canvas
from data_pipelines.streets.solids import Frame, Sketch, disc, prism, rectangle

CAR = 13
PAINTS = np.array([
    (32, 33, 36), (60, 62, 66), (120, 124, 128), (168, 172, 176), (214, 216, 218), (236, 236, 234), (150, 24, 26), (28, 50, 104),
    (40, 70, 120), (96, 110, 124), (60, 84, 70), (170, 150, 120), (70, 40, 36), (196, 150, 40), (90, 130, 170), (200, 90, 40),
], float)  # fmt: skip
PAINT_ODDS = np.cumsum([12, 12, 12, 12, 10, 10, 6, 5, 5, 5, 2, 3, 2, 1, 2, 1]) / 100
# Side profiles of car bodies: length, height, height of the waist, then the cabin's corners as fractions of the length
# (rear window foot, roof rear, roof front, windscreen foot); the last number is the share of the body among cars.
BODIES = np.array([
    (3.9, 1.48, 0.90, 0.03, 0.14, 0.56, 0.76, 0.26),  # hatchback
    (4.6, 1.44, 0.90, 0.16, 0.28, 0.58, 0.75, 0.22),  # saloon
    (4.7, 1.47, 0.92, 0.02, 0.10, 0.60, 0.77, 0.15),  # estate
    (4.5, 1.72, 1.06, 0.02, 0.09, 0.60, 0.76, 0.18),  # sport utility
    (4.9, 1.95, 1.12, 0.01, 0.04, 0.70, 0.90, 0.07),  # van
    (4.3, 1.26, 0.82, 0.10, 0.33, 0.52, 0.70, 0.03),  # sports car
    (5.2, 1.78, 1.06, 0.36, 0.39, 0.62, 0.76, 0.04),  # pick-up
    (5.8, 2.50, 1.20, 0.00, 0.01, 0.74, 0.92, 0.05),  # delivery van
])  # fmt: skip
BODY_ODDS = np.cumsum(BODIES[:, -1])
RED, CLEAR_GLASS, PLATES = np.array([176.0, 20, 22]), np.array([200.0, 204, 205]), np.array([[225.0, 225, 215], [220, 190, 60]])
HEADLIGHT, TAILLIGHT = (245, 240, 220), (255, 40, 30)
TYRE, RIM, PLASTIC = np.full(3, 24.0), np.full(3, 120.0), np.array([36.0, 36, 38])


def car(canvas: Canvas, rng: np.random.Generator, frame: Frame, moving: bool) -> None:
    """A car of a random body; `moving` ones have their lights on."""
    length, height, waist, b0, b1, b2, b3, _ = BODIES[np.searchsorted(BODY_ODDS[:-1], rng.random())]
    stretch = rng.uniform(0.95, 1.05, 4)
    length, height, waist = length * stretch[0], height * stretch[1], waist * stretch[2]
    half = (0.86 + 0.04 * (height > 1.6)) * stretch[3]
    colour = PAINTS[np.searchsorted(PAINT_ODDS[:-1], rng.random())] * rng.uniform(0.8, 1.15) + rng.normal(0, 6, 3)
    paint, glass = np.clip(colour, 8, 245), np.array([38.0, 44, 52]) * rng.uniform(0.6, 1.6)
    sketch = Sketch(canvas, frame, canvas.number(CAR, frame_depth(canvas, frame)))
    ground_shadow(canvas, frame, half, length)
    z = lambda share: (share - 0.5) * length
    nose, dark = waist - 0.04 - 0.06 * rng.random(), paint * 0.35
    nose_up, tail_up = nose * 0.86, waist * 0.92
    body = np.array(
        [
            (z(0), 0.34),
            (z(0), tail_up),
            (z(b0), waist),
            (z(b3), waist),
            (z(0.97), nose_up),
            (z(1), 0.62),
            (z(1), 0.24),
            (z(0), 0.24),
        ]
    )
    prism(sketch, body, half, [paint * 0.9, paint, paint, paint, paint * 0.9, dark + 10, dark, dark, paint * 0.94])
    _flank(sketch, rng, half, (z(0), z(1)), waist, paint)
    wheels(sketch, half, (z(0.18), z(0.81)), 0.31 * (1 + 0.12 * (height > 1.6)))
    cabin = np.array([[z(b0), waist], [z(b1), height], [z(b2), height], [z(b3), waist]])
    prism(sketch, cabin, half * np.array([0.96, 0.8, 0.8, 0.96]), [glass, paint, glass * 1.15, dark, paint * 0.92])
    _side_windows(sketch, (z(b0), z(b1), z(b2), z(b3)), waist, height, half * 0.88, glass, rng.random() < 0.85 or height < 1.8)
    ends(sketch, rng, length, half, waist, moving)
    sketch.draw()


def _flank(sketch: Sketch, rng: np.random.Generator, half: float, span, waist: float, paint) -> None:
    """Sill, highlight below the windows, and a door gap on the side that is seen."""
    door = rng.uniform(-0.1, 0.15)
    if abs(sketch.eye[0]) < half or sketch.depth > 40:
        return
    (z0, z1), tone = span, sketch.side_tone()
    sketch.on_side(half + 0.005, rectangle(z0 + 0.05, 0.24, z1 - 0.05, 0.36), paint * 0.35 + 8, tone)
    sketch.on_side(
        half + 0.005, rectangle(z0 + 0.1, waist * 0.86, z1 * 0.72, waist * 0.94), np.minimum(paint * 1.12 + 14, 250), tone
    )
    sketch.on_side(half + 0.006, rectangle(door - 0.012, 0.36, door + 0.012, waist), paint * 0.5, tone)


def _side_windows(sketch: Sketch, corners, waist: float, height: float, half: float, glass, full: bool) -> None:
    """The glass of the side that is seen, with a door pillar between the panes."""
    if abs(sketch.eye[0]) < half:
        return
    z0, z1, z2, z3 = corners
    low, high, middle = waist + 0.03, height - 0.1, z1 + 0.45 * (z2 - z1)
    tone = sketch.side_tone()
    sketch.on_side(half, [(middle + 0.05, low), (middle + 0.05, high), (z2 - 0.02, high), (z3 - 0.22, low)], glass, tone)
    if full:
        sketch.on_side(
            half, [(z0 + 0.28, low), (z1 + 0.12, high), (middle - 0.05, high), (middle - 0.05, low)], glass * 0.9, tone
        )


def ends(sketch: Sketch, rng: np.random.Generator, length: float, half: float, waist: float, moving: bool) -> None:
    """Lights, plate, grille and bumper of the end that is seen; lamps of moving vehicles are noted for the night."""
    y, wide, tall, plate = rng.uniform((0.68, 0.22, 0.1, 0), (0.8, 0.36, 0.2, 1))
    front, y = sketch.end > 0, y * waist
    z = (length / 2 + 0.01) * sketch.end
    if abs(sketch.eye[2]) < length / 2:
        return
    if front or sketch.depth < 60:
        tone, lamp = sketch.end_tone(), CLEAR_GLASS if front else RED
        sketch.on_end(z, rectangle(-half * 0.96, y - tall / 2, -half * 0.96 + wide, y + tall / 2), lamp, tone)
        sketch.on_end(z, rectangle(half * 0.96 - wide, y - tall / 2, half * 0.96, y + tall / 2), lamp, tone)
        if front:
            sketch.on_end(z, rectangle(-half * 0.5, y - 0.12, half * 0.5, y + 0.04), PLASTIC * 0.8, tone)
        sketch.on_end(z, rectangle(-half * 0.98, 0.3, half * 0.98, 0.42), PLASTIC, tone)
        sketch.on_end(z, rectangle(-0.26, 0.46, 0.26, 0.57), PLATES[int(plate > 0.8)], tone)
    if moving:
        for x in (-0.8, 0.8):
            point = sketch.frame.world([x * half, y, z])
            sketch.canvas.lamp(point, HEADLIGHT if front else TAILLIGHT, 1.0 if front else 0.45, "head" if front else "tail")


def wheels(sketch: Sketch, half: float, places, radius: float) -> None:
    """Arches, tyres and rims on the side that is seen."""
    if abs(sketch.eye[0]) < half * 0.9:
        return
    near = sketch.depth < 40
    for z in places:
        if near:
            sketch.on_side(half + 0.008, disc((z, radius * 1.08), radius * 1.16), PLASTIC * 0.4)
        sketch.on_side(half + 0.01, disc((z, radius), radius), TYRE)
        if near:
            sketch.on_side(half + 0.02, disc((z, radius), radius * 0.6), RIM, sketch.side_tone())


def ground_shadow(canvas: Canvas, frame: Frame, half: float, length: float, height: float = 1.3) -> None:
    """Darkness under a vehicle, and its cast shadow when the sun is out."""
    base = np.zeros((4, 3))
    base[:, [0, 2]] = rectangle(-half - 0.1, -length / 2 - 0.15, half + 0.1, length / 2 + 0.15)
    flat = frame.world(base)
    if canvas.light.sun_power > 0.15:
        canvas.shadow(hull_shadow(flat, canvas.light.cast * height), int(150 * canvas.light.sun_power))
    canvas.shadow(flat, 220)


def hull_shadow(flat: np.ndarray, cast: np.ndarray) -> np.ndarray:
    """The ground polygon swept from a footprint along a shadow vector."""
    both = np.concatenate([flat, flat + cast])
    ring = cv2.convexHull(both[:, [0, 2]].astype(np.float32))[:, 0]
    points = np.zeros((len(ring), 3))
    points[:, [0, 2]] = ring
    return points


def frame_depth(canvas: Canvas, frame: Frame) -> float:
    """Depth of a frame's origin before the camera in metres."""
    return float(canvas.camera.view(frame.origin)[2])

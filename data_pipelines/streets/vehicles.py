"""Cars, trucks, buses and trams as extruded solids with glass, wheels, lights and plates."""

from __future__ import annotations

import cv2
import numpy as np

from data_pipelines.streets.canvas import Canvas
from data_pipelines.streets.draws import pick
from data_pipelines.streets.solids import Frame, box, disc, on_side, prism, rectangle

CAR, TRUCK, BUS, TRAIN = 13, 14, 15, 16
PAINTS = ((32, 33, 36), (60, 62, 66), (120, 124, 128), (168, 172, 176), (214, 216, 218), (236, 236, 234), (150, 24, 26), (28, 50, 104),
          (40, 70, 120), (96, 110, 124), (60, 84, 70), (170, 150, 120), (70, 40, 36), (196, 150, 40), (90, 130, 170), (200, 90, 40))
PAINT_ODDS = np.array([12, 12, 12, 12, 10, 10, 6, 5, 5, 5, 2, 3, 2, 1, 2, 1.0])
PAINT_ODDS = np.cumsum(PAINT_ODDS) / PAINT_ODDS.sum()
# Side profiles of car bodies: length, height, height of the waist, then the cabin's corners as fractions of the length
# (rear window foot, roof rear, roof front, windscreen foot).
BODIES = {
    "hatch": (3.9, 1.48, 0.90, 0.03, 0.14, 0.56, 0.76),
    "sedan": (4.6, 1.44, 0.90, 0.16, 0.28, 0.58, 0.75),
    "estate": (4.7, 1.47, 0.92, 0.02, 0.10, 0.60, 0.77),
    "suv": (4.5, 1.72, 1.06, 0.02, 0.09, 0.60, 0.76),
    "van": (4.9, 1.95, 1.12, 0.01, 0.04, 0.70, 0.90),
    "sports": (4.3, 1.26, 0.82, 0.10, 0.33, 0.52, 0.70),
    "pickup": (5.2, 1.78, 1.06, 0.36, 0.39, 0.62, 0.76),
    "delivery": (5.8, 2.50, 1.20, 0.00, 0.01, 0.74, 0.92),
}
BODY_ODDS = np.array([26, 22, 15, 18, 7, 3, 4, 5.0])
BODY_ODDS = np.cumsum(BODY_ODDS) / BODY_ODDS.sum()
RED, AMBER, WARM = (180, 18, 20), (230, 150, 40), (245, 240, 220)


def car(canvas: Canvas, rng: np.random.Generator, frame: Frame, moving: bool) -> None:
    """A car of a random body; `moving` ones have their lights on."""
    length, height, waist, b0, b1, b2, b3 = BODIES[list(BODIES)[np.searchsorted(BODY_ODDS, rng.random())]]
    scale = rng.uniform(0.94, 1.06)
    length, height, waist = length * scale, height * rng.uniform(0.96, 1.05), waist * rng.uniform(0.96, 1.04)
    half = (0.86 + 0.04 * (height > 1.6)) * rng.uniform(0.96, 1.04)
    paint = np.clip(np.array(PAINTS[np.searchsorted(PAINT_ODDS, rng.random())]) * rng.uniform(0.8, 1.15) + rng.normal(0, 6, 3), 8, 245)
    glass = np.array([38, 44, 52]) * rng.uniform(0.6, 1.6)
    number = canvas.number(CAR, _depth(canvas, frame))
    z = lambda f: (f - 0.5) * length
    ground_shadow(canvas, frame, half, length)
    hood = waist - 0.04 - 0.06 * rng.random()
    lower = np.array([[z(0), 0.34], [z(0), waist * 0.92], [z(b0), waist], [z(b3), waist], [z(0.97), hood * 0.86], [z(1), 0.62], [z(1), 0.24], [z(0), 0.24]])
    dark = paint * 0.35
    prism(canvas, frame, lower, half, [paint * 0.9, paint, paint, paint, paint * 0.9, dark + 10, dark, dark, paint], number)
    wheels(canvas, frame, half, (z(0.18), z(0.81)), 0.31 * (1 + 0.12 * (height > 1.6)), number)
    cabin = np.array([[z(b0), waist], [z(b1), height], [z(b2), height], [z(b3), waist]])
    width = np.array([half * 0.96, half * 0.8, half * 0.8, half * 0.96])
    prism(canvas, frame, cabin, width, [glass, paint, glass * 1.15, dark, paint * 0.92], number)
    _side_windows(canvas, frame, (z(b0), z(b1), z(b2), z(b3)), waist, height, half * 0.88, glass, number, rng.random() < 0.85 or height < 1.8)
    car_ends(canvas, rng, frame, length, half, waist, number, moving)


def _side_windows(canvas, frame, corners, waist, height, half, glass, number, full) -> None:
    """The glass of the side that is seen, with a door pillar between the panes."""
    if abs(frame.local_eye(canvas)[0]) < half:
        return
    z0, z1, z2, z3 = corners
    low, high = waist + 0.03, height - 0.1
    middle = z1 + 0.45 * (z2 - z1)
    front = np.array([[middle + 0.05, low], [middle + 0.05, high], [z2 - 0.02, high], [z3 - 0.22, low]])
    rear = np.array([[z0 + 0.28, low], [z1 + 0.12, high], [middle - 0.05, high], [middle - 0.05, low]])
    panes = np.stack([front, rear] if full else [front])
    tone = canvas.light.on(frame.turned([np.sign(frame.local_eye(canvas)[0]), 0, 0]))
    canvas.quads(on_side(frame, canvas, half, panes), np.array([glass * tone] * len(panes)), number)


def car_ends(canvas, rng, frame: Frame, length: float, half: float, waist: float, number: int, moving: bool) -> None:
    """Lights, plate and bumper of the end that is seen."""
    eye = frame.local_eye(canvas)
    front = eye[2] > 0
    if abs(eye[2]) < length / 2:
        return
    z = (length / 2 + 0.01) * (1 if front else -1)
    face = lambda r: frame.world(np.stack([r[:, 0], r[:, 1], np.full(len(r), z)], axis=1))
    tone = canvas.light.on(frame.turned([0, 0, np.sign(z)]))
    y = waist * rng.uniform(0.68, 0.8)
    wide, tall = rng.uniform(0.22, 0.36), rng.uniform(0.1, 0.2)
    shapes = [rectangle(-half * 0.96, y - tall / 2, -half * 0.96 + wide, y + tall / 2), rectangle(half * 0.96 - wide, y - tall / 2, half * 0.96, y + tall / 2),
              rectangle(-half * 0.98, 0.3, half * 0.98, 0.42), rectangle(-0.26, 0.46, 0.26, 0.57)]
    lamp = np.array([200, 204, 205]) if front else np.array(RED)
    colours = [lamp, lamp, np.array([36, 36, 38]), np.array([225, 225, 215]) if rng.random() < 0.8 else np.array([220, 190, 60])]
    if front:
        shapes.insert(2, rectangle(-half * 0.5, y - 0.12, half * 0.5, y + 0.04))
        colours.insert(2, np.array([28, 28, 30]))
    if eye[2] > 0 or canvas.camera.view(frame.origin)[2] < 60:
        canvas.quads(np.stack([face(s) for s in shapes]), np.array(colours) * tone, number)
    if moving:
        for x in (-0.8, 0.8):
            canvas.lamp(frame.world([x * half, y, z]), WARM if front else (255, 40, 30), 1.0 if front else 0.45, "head" if front else "tail")


def wheels(canvas: Canvas, frame: Frame, half: float, places, radius: float, number: int) -> None:
    """Tyres and rims on the side that is seen."""
    eye = frame.local_eye(canvas)
    if abs(eye[0]) < half * 0.9:
        return
    tyres = np.stack([on_side(frame, canvas, half + 0.01, disc((z, radius), radius)) for z in places])
    canvas.quads(tyres, np.full((len(places), 3), 24.0), number)
    if canvas.camera.view(frame.origin)[2] < 35:
        rims = np.stack([on_side(frame, canvas, half + 0.02, disc((z, radius), radius * 0.6, 8)) for z in places])
        canvas.quads(rims, np.full((len(places), 3), 118.0), number)


def ground_shadow(canvas: Canvas, frame: Frame, half: float, length: float, height: float = 1.3) -> None:
    """Darkness under a vehicle, and its cast shadow when the sun is out."""
    base = rectangle(-half - 0.1, -length / 2 - 0.15, half + 0.1, length / 2 + 0.15)
    flat = frame.world(np.stack([base[:, 0], np.zeros(4), base[:, 1]], axis=1))
    canvas.shadow(flat, 215)
    if canvas.light.sun_power > 0.15:
        canvas.shadow(hull_shadow(flat, canvas.light.cast * height), int(150 * canvas.light.sun_power))
        canvas.shadow(flat, 225)


def hull_shadow(flat: np.ndarray, cast: np.ndarray) -> np.ndarray:
    """The ground polygon swept from a footprint along a shadow vector."""
    both = np.concatenate([flat, flat + cast])
    ring = cv2.convexHull(both[:, [0, 2]].astype(np.float32))[:, 0]
    return np.stack([ring[:, 0], np.zeros(len(ring)), ring[:, 1]], axis=1)


def _depth(canvas: Canvas, frame: Frame) -> float:
    return float(canvas.camera.view(frame.origin)[2])


def truck(canvas: Canvas, rng: np.random.Generator, frame: Frame, moving: bool) -> None:
    """A lorry: cab and a box, an open bed or a tank behind it."""
    length, half, top = rng.uniform(6.5, 12), rng.uniform(1.15, 1.27), rng.uniform(2.9, 3.9)
    cab_paint = np.array(pick(rng, PAINTS)) * rng.uniform(0.9, 1.2)
    load = np.array([(225, 226, 224), (190, 60, 40), (40, 80, 140), (200, 170, 60), (110, 120, 110), (160, 160, 165)][rng.integers(6)]) * rng.uniform(0.75, 1.05)
    number = canvas.number(TRUCK, _depth(canvas, frame))
    ground_shadow(canvas, frame, half, length, 3.0)
    z0, z1, cab = -length / 2, length / 2, rng.uniform(1.8, 2.3)
    cab_top = min(top - 0.1, rng.uniform(2.4, 3.2))
    parts = [lambda: _load(canvas, rng_load, frame, half, z0, z1 - cab - 0.25, top, load, number),
             lambda: _cab(canvas, frame, half * 0.96, z1 - cab, z1, cab_top, cab_paint, number)]
    rng_load = np.random.Generator(np.random.Philox(int(rng.integers(2**62))))
    box(canvas, frame, (-half * 0.85, 0.5, z0), (half * 0.85, 0.95, z1 - 0.1), np.array([40, 40, 42]), number)
    for part in parts if frame.local_eye(canvas)[2] > 0 else parts[::-1]:
        part()
    wheels(canvas, frame, half, (z0 + 1.1, z0 + 2.2, z1 - 1.2), 0.48, number)
    car_ends(canvas, rng, frame, length, half, 1.2, number, moving)


def _cab(canvas, frame, half, z0, z1, top, paint, number) -> None:
    profile = np.array([[z0, 0.45], [z0, top], [z1 - 0.35, top], [z1 - 0.12, 1.5], [z1, 1.3], [z1, 0.45]])
    glass = np.array([40, 46, 54.0])
    prism(canvas, frame, profile, half, [paint * 0.8, paint, glass, paint, paint * 0.92, paint * 0.3, paint], number)
    if abs(frame.local_eye(canvas)[0]) > half:
        canvas.quads(on_side(frame, canvas, half + 0.01, np.array([[[z0 + 0.7, 1.55], [z0 + 0.7, top - 0.3], [z1 - 0.5, top - 0.3], [z1 - 0.3, 1.55]]])), glass[None], number)


def _load(canvas, rng, frame, half, z0, z1, top, paint, number) -> None:
    kind = rng.random()
    if kind < 0.65:
        box(canvas, frame, (-half, 0.95, z0), (half, top, z1), paint, number)
        stripe = np.array([[[z0 + 0.3, 1.5], [z0 + 0.3, 2.2], [z1 - 0.3, 2.2], [z1 - 0.3, 1.5]]])
        if rng.random() < 0.6 and abs(frame.local_eye(canvas)[0]) > half:
            canvas.quads(on_side(frame, canvas, half + 0.01, stripe), rng.uniform(20, 230, (1, 3)), number)
        if frame.local_eye(canvas)[2] < z0:
            door = np.array([[[-0.02, 1.0], [0.02, 1.0], [0.02, top - 0.1], [-0.02, top - 0.1]]])
            canvas.quads(frame.world(np.stack([door[..., 0], door[..., 1], np.full(door.shape[:2], z0 - 0.01)], -1)), paint[None] * 0.6, number)
    elif kind < 0.85:
        box(canvas, frame, (-half, 0.95, z0), (half, 1.75, z1), paint * 0.9, number)
        heap = np.array([[z0 + 0.3, 1.75], [z0 + 1.0, 2.2], [z1 - 1.0, 2.3], [z1 - 0.2, 1.75]])
        prism(canvas, frame, heap, half * 0.9, np.tile(np.array([110, 92, 70.0]), (5, 1)), number)
    else:
        ring = disc((0.0, 1.9), 1.0, 12)
        face = z0 if frame.local_eye(canvas)[2] < z0 else z1
        box(canvas, frame, (-half * 0.8, 1.0, z0), (half * 0.8, 2.75, z1), paint * 0.85, number)
        canvas.polygon(frame.world(np.stack([ring[:, 0], ring[:, 1], np.full(12, face)], axis=1)), paint * 0.95, number)


def bus(canvas: Canvas, rng: np.random.Generator, frame: Frame, moving: bool) -> None:
    """A city bus or coach, now and then a double-decker."""
    height = 4.3 if rng.random() < 0.2 else rng.uniform(2.9, 3.3)
    _long_vehicle(canvas, rng, frame, moving, BUS, rng.uniform(9.5, 13), 1.26, height, True)


def train(canvas: Canvas, rng: np.random.Generator, frame: Frame, moving: bool) -> None:
    """A tram or light train of two to four cars."""
    cars, length = int(rng.integers(2, 4)), rng.uniform(9, 13)
    ahead = frame.local_eye(canvas)[2] > 0
    seed = int(rng.integers(2**62))
    for k in range(cars) if ahead else reversed(range(cars)):
        same = np.random.Generator(np.random.Philox(seed))
        shift = Frame(0, 0, 0)
        shift.origin, shift.axes = frame.world([0, 0, (k - (cars - 1) / 2) * (length + 0.3)]), frame.axes
        _long_vehicle(canvas, same, shift, moving, TRAIN, length, 1.25, 3.5, False)


def _long_vehicle(canvas, rng, frame, moving, label, length, half, height, wheeled) -> None:
    paint = np.array([(200, 40, 36), (230, 200, 60), (225, 228, 226), (40, 90, 60), (36, 70, 140), (240, 130, 40), (110, 170, 190)][rng.integers(7)]) * rng.uniform(0.8, 1.05)
    second = np.array([230, 230, 226]) if rng.random() < 0.5 else paint * 0.6
    glass = np.array([36, 42, 50]) * rng.uniform(0.7, 1.5)
    number = canvas.number(label, _depth(canvas, frame))
    ground_shadow(canvas, frame, half, length, height)
    z0, z1 = -length / 2, length / 2
    slant = rng.uniform(0.05, 0.5)
    profile = np.array([[z0, 0.35], [z0, height], [z1 - slant, height], [z1, 1.1], [z1, 0.35]])
    prism(canvas, frame, profile, half, [paint, second * 0.9, paint * 0.95, paint * 0.8, paint * 0.3, paint], number)
    eye = frame.local_eye(canvas)
    tone = canvas.light.on(frame.turned([np.sign(eye[0]), 0, 0]))
    decks = ((1.25, 2.15), (2.65, 3.6)) if height > 4 else ((1.2, height - 0.55),)
    if abs(eye[0]) > half:
        panes, colours = [rectangle(z0 + 0.05, 0.35, z1 - 0.05, 0.75)], [second]
        for low, high in decks:
            edges = np.linspace(z0 + 0.4, z1 - 0.5 - slant, int(length / 1.5))
            panes += [rectangle(a + 0.06, low, b - 0.06, high) for a, b in zip(edges[:-1], edges[1:], strict=True)]
            colours += [glass * rng.uniform(0.8, 1.25) for _ in edges[1:]]
        canvas.quads(on_side(frame, canvas, half + 0.01, np.stack(panes)), np.array(colours) * tone, number)
        if wheeled:
            wheels(canvas, frame, half, (z0 + 2.4, z1 - 2.5), 0.48, number)
    if abs(eye[2]) > length / 2:
        z = (length / 2 + 0.02) * np.sign(eye[2])
        ends = [rectangle(-half * 0.92, low, half * 0.92, high) for low, high in decks] + [rectangle(-half * 0.6, height - 0.45, half * 0.6, height - 0.15)]
        colours = [glass] * len(decks) + [np.array([30, 30, 26])]
        shift = np.array([0, 0, -slant * 0.5 if eye[2] > 0 else 0])
        points = np.stack([np.stack([e[:, 0], e[:, 1], np.full(4, z)], axis=1) for e in ends]) + shift * (np.arange(len(ends)) < 0)[:, None, None]
        canvas.quads(frame.world(points), np.array(colours) * canvas.light.on(frame.turned([0, 0, np.sign(eye[2])])), number)
        car_ends(canvas, rng, frame, length, half, 1.0, number, moving)

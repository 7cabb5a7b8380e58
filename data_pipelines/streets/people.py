"""People on foot, riders, bicycles and motorcycles."""

from __future__ import annotations

import math

import numpy as np

from data_pipelines.streets.canvas import Canvas
from data_pipelines.streets.draws import pick
from data_pipelines.streets.solids import Frame, disc

PERSON, RIDER, MOTORCYCLE, BICYCLE = 11, 12, 17, 18
CLOTHES = np.array(
    [
        (30, 32, 38),
        (52, 56, 66),
        (92, 94, 100),
        (150, 150, 152),
        (220, 220, 216),
        (40, 52, 92),
        (70, 96, 140),
        (140, 30, 34),
        (110, 84, 60),
        (170, 140, 100),
        (60, 80, 58),
        (196, 170, 60),
        (180, 90, 120),
        (90, 60, 90),
        (210, 110, 50),
    ],
    float,
)
CLOTHES_ODDS = np.array([14, 12, 8, 6, 7, 9, 8, 5, 5, 4, 4, 2, 3, 2, 2.0])
CLOTHES_ODDS = np.cumsum(CLOTHES_ODDS) / CLOTHES_ODDS.sum()
SKINS = np.array([(224, 182, 152), (196, 148, 116), (152, 104, 76), (98, 66, 48)], float)
HAIRS = np.array([(30, 24, 20), (62, 42, 28), (120, 86, 50), (180, 150, 100), (150, 150, 148)], float)


def limb(p, q, width: float, end_width: float | None = None) -> np.ndarray:
    """Corners [4, 2] of a tapering strip between two points."""
    p, q = np.asarray(p, float), np.asarray(q, float)
    side = np.array([q[1] - p[1], p[0] - q[0]])
    side /= math.hypot(*side) + 1e-9
    end_width = width if end_width is None else end_width
    wide, narrow = side * (width / 2), side * (end_width / 2)
    return np.array([p + wide, p - wide, q - narrow, q + narrow])


class Billboard:
    """An upright plane that faces the camera: (right, up) in metres to canvas positions."""

    def __init__(self, canvas: Canvas, frame: Frame, size: float):
        self.foot, self.depth = canvas.place(frame.origin)
        self.scale = canvas.camera.focal * canvas.scale / max(self.depth, 0.4) * size

    def draw(self, canvas: Canvas, shapes: list[np.ndarray], colours, number: int) -> None:
        canvas.fills(shapes, colours, number, self.foot, (self.scale, -self.scale))


def clothing(rng: np.random.Generator, count: int) -> np.ndarray:
    """Colours [count, 3] of garments."""
    picks = CLOTHES[np.searchsorted(CLOTHES_ODDS, rng.random(count))]
    return np.clip(picks * rng.uniform(0.75, 1.2, (count, 1)) + rng.normal(0, 7, (count, 3)), 8, 245)


SHOES = np.array([35.0, 30, 30])
HAIR_LINE = np.array([[-0.12, 1.62], [-0.115, 1.72], [0, 1.77], [0.115, 1.72], [0.12, 1.62], [0, 1.68]])
SKIRT = np.array([[-0.17, 0.95], [0.17, 0.95], [0.27, 0.5], [-0.27, 0.5]])


def person(canvas: Canvas, rng: np.random.Generator, frame: Frame, walking: bool) -> None:
    """A pedestrian; the heading decides how wide the stride and the shoulders look."""
    tall = rng.uniform(1.55, 1.92) if rng.random() < 0.9 else rng.uniform(1.05, 1.4)
    board = Billboard(canvas, frame, tall / 1.75)
    top, legs, coat = clothing(rng, 3)
    skin, hair = SKINS[rng.integers(4)] * rng.uniform(0.85, 1.08), HAIRS[rng.integers(5)]
    across, pose = abs(frame.axes[2, 0]), rng.random(4)
    stride = (0.1 + 0.3 * pose[0]) * (across if walking else 0.15) + 0.06
    shoulder, swing = 0.43 - 0.14 * across + 0.08 * pose[1], (pose[2] - 0.5) * 0.5 * across
    long_coat, skirt, bag, hood = rng.random(4) < [0.22, 0.12, 0.3, 0.15]
    shapes = _legs(stride) + _trunk(shoulder, swing, 0.5 if long_coat else 0.86)
    bare = skin if skirt else legs
    colours = [bare * 0.85, bare, SHOES, SHOES, top * 0.8, top * 0.8, top, top * 0.9, top * 0.9]
    if skirt:
        shapes.append(SKIRT)
        colours.append(legs)
    if bag:
        side, high = pick(rng, (-1, 1)), 1.15 + 0.2 * pose[3]
        shapes.append(np.array([[side * 0.12, 0.8], [side * 0.36, 0.8], [side * 0.38, high], [side * 0.12 + 0.02, 1.2]]))
        colours.append(coat)
    shapes += [disc((0, 1.63), 0.115, 9), HAIR_LINE]
    colours += [skin, top if hood else hair]
    board.draw(canvas, shapes, np.array(colours) * canvas.light.on((0, 0.2, -1.0)), canvas.number(PERSON, board.depth))
    _shadow(canvas, frame, 0.25, tall)


def _legs(stride: float) -> list[np.ndarray]:
    """Two legs and two shoes."""
    right, left = stride * 0.9, -stride
    return [
        limb((right, 0.04), (0.05, 0.88), 0.13, 0.19),
        limb((left, 0.04), (-0.05, 0.88), 0.13, 0.19),
        limb((right - 0.03, 0.03), (right + 0.12, 0.03), 0.08),
        limb((left - 0.03, 0.03), (left + 0.12, 0.03), 0.08),
    ]


def _trunk(shoulder: float, swing: float, hem: float) -> list[np.ndarray]:
    """The far arm, the trunk, and the near arm; arms have two parts each."""
    half, elbow = shoulder / 2, shoulder / 2 + 0.05 + swing * 0.5
    upper, fore = limb((half - 0.02, 1.42), (elbow, 1.12), 0.12, 0.11), limb((elbow, 1.14), (half + swing, 0.86), 0.1, 0.08)
    waist = shoulder * 0.42
    trunk = np.array([[-half, 1.44], [-0.07, 1.5], [0.07, 1.5], [half, 1.44], [waist, hem], [-waist, hem]])
    return [upper * [-1, 1], fore * [-1, 1], trunk, upper, fore]


def _shadow(canvas: Canvas, frame: Frame, half: float, tall: float) -> None:
    foot = frame.world(np.array([[-half, 0, -half], [half, 0, -half], [half, 0, half], [-half, 0, half]]))
    foot[:, 1] = 0
    if canvas.light.sun_power > 0.15:
        tip = canvas.light.cast * tall
        canvas.shadow(np.concatenate([foot[:2], foot[2:] + tip]), int(150 * canvas.light.sun_power))
    canvas.shadow(foot, 150)


def bicycle(canvas: Canvas, rng: np.random.Generator, frame: Frame, ridden: bool) -> None:
    """A bicycle standing, or under a rider."""
    number = canvas.number(BICYCLE, _depth(canvas, frame))
    paint = clothing(rng, 1)[0] * 1.1
    points = {
        "rear": (-0.52, 0.34),
        "front": (0.52, 0.34),
        "crank": (-0.08, 0.3),
        "seat": (-0.2, 0.88),
        "head": (0.34, 0.86),
        "bar": (0.36, 1.02),
    }
    plane = lambda p: _side(canvas, frame, np.asarray(p, float))
    for name in ("rear", "front"):
        _wheel(canvas, frame, points[name], 0.34, number, 0.25)
    pairs = (
        ("rear", "crank"),
        ("rear", "seat"),
        ("crank", "seat"),
        ("crank", "head"),
        ("seat", "head"),
        ("head", "front"),
        ("head", "bar"),
    )
    lines = [plane([points[a], points[b]]) for a, b in pairs]
    metre = canvas.camera.focal * canvas.scale / _depth(canvas, frame)
    canvas.strokes(lines, paint * canvas.light.on((0, 0, -1)), number, 0.05 * metre)
    canvas.strokes([plane([(-0.32, 0.93), (-0.08, 0.92)])], (24, 24, 26), number, 0.07 * metre)
    handle = frame.world(np.array([[-0.28, 1.02, 0.3], [0, 1.04, 0.38], [0.28, 1.02, 0.3]]))
    canvas.strokes([canvas.camera.pixels(canvas.camera.view(handle), canvas.scale)], (40, 40, 42), number, 0.045 * metre)
    if rng.random() < 0.25:
        canvas.fill(plane([(0.45, 0.8), (0.75, 0.8), (0.75, 1.0), (0.45, 1.0)]), rng.uniform(40, 150, 3), number)
    _shadow(canvas, frame, 0.3, 0.8)
    if ridden:
        _rider(canvas, rng, frame, ((-0.2, 0.95), (0.06, 1.48), (0.34, 1.04), (0.02, 0.36)), helmet=rng.random() < 0.5)


def motorcycle(canvas: Canvas, rng: np.random.Generator, frame: Frame, ridden: bool) -> None:
    """A motorcycle or scooter, standing or ridden."""
    number = canvas.number(MOTORCYCLE, _depth(canvas, frame))
    paint = clothing(rng, 1)[0] * 1.1 + 10
    tone = canvas.light.on((0, 0, -1))
    plane = lambda p: _side(canvas, frame, np.asarray(p, float))
    for centre in ((-0.68, 0.31), (0.68, 0.31)):
        _wheel(canvas, frame, centre, 0.31, number, 0.75)
    across = np.array([[-0.3, 0.45, 0], [0.3, 0.45, 0], [0.26, 0.95, 0], [-0.26, 0.95, 0]])
    if rng.random() < 0.5:
        body = [
            [(-0.75, 0.5), (-0.7, 0.85), (0.0, 0.8), (0.05, 0.35), (-0.3, 0.3)],
            [(0.0, 0.3), (0.05, 0.42), (0.5, 0.45), (0.55, 1.05), (0.68, 0.95), (0.62, 0.35)],
        ]
    else:
        body = [
            [(-0.9, 0.72), (-0.8, 0.88), (0.0, 0.78), (0.05, 0.98), (0.4, 0.98), (0.52, 0.7), (0.1, 0.3), (-0.4, 0.28)],
            [(0.5, 0.7), (0.42, 1.12), (0.56, 1.1), (0.66, 0.5)],
        ]
    canvas.polygon(frame.world(across * [0.75, 1, 1]), paint * tone * 0.7, number)
    for k, shape in enumerate(body):
        canvas.fill(plane(shape), paint * tone * (1 - 0.25 * k), number)
    canvas.fill(plane([(-0.75, 0.84), (-0.7, 0.93), (0.0, 0.86), (0.0, 0.78)]), (26, 26, 28), number)
    metre = canvas.camera.focal * canvas.scale / _depth(canvas, frame)
    bars = frame.world(np.array([[-0.36, 1.08, 0.38], [0, 1.06, 0.48], [0.36, 1.08, 0.38]]))
    canvas.strokes([canvas.camera.pixels(canvas.camera.view(bars), canvas.scale)], (50, 50, 52), number, 0.05 * metre)
    rear = frame.local_eye(canvas)[2] < 0
    lamp = frame.world(np.array([0, 0.8 if rear else 0.92, -0.8 if rear else 0.6]))
    spot, _ = canvas.place(lamp)
    canvas.fill(disc(spot, 0.09 * metre, 8), (170, 20, 20) if rear else (230, 228, 215), number)
    _shadow(canvas, frame, 0.4, 1.0)
    if ridden:
        canvas.lamp(lamp, (255, 40, 30) if rear else (245, 240, 220), 0.4 if rear else 0.8, "tail" if rear else "head")
        _rider(canvas, rng, frame, ((-0.32, 0.92), (-0.1, 1.46), (0.42, 1.1), (0.1, 0.36)), helmet=True)


def _rider(canvas, rng, frame: Frame, pose, helmet: bool) -> None:
    """A rider from (ahead, up) joints: hip, shoulder, hand, foot. Depth across the vehicle gives width seen from behind."""
    number = canvas.number(RIDER, max(_depth(canvas, frame) - 0.1, 0.5))
    hip, shoulder, hand, foot = (np.asarray(p, float) for p in pose)
    top, legs = clothing(rng, 2)
    skin, hair = SKINS[rng.integers(4)], HAIRS[rng.integers(5)]
    tone = canvas.light.on((0, 0.2, -1.0))
    knee = (hip + foot) / 2 + [0.2, 0.1]
    metre = canvas.camera.focal * canvas.scale / _depth(canvas, frame)
    at = lambda p, x: _side(canvas, frame, np.asarray(p, float)[None], x)[0]
    shapes, colours = [], []
    for x in (0.16, -0.16) if frame.local_eye(canvas)[0] < 0 else (-0.16, 0.16):
        lift = np.array([0, 0.14 if x > 0 else -0.02])
        shapes += [
            limb(at(hip, x * 0.7), at(knee + lift, x), 0.2 * metre, 0.15 * metre),
            limb(at(knee + lift, x), at(foot + lift, x * 0.8), 0.14 * metre, 0.1 * metre),
            limb(at(shoulder - [0, 0.05], x * 1.2), at(hand, x * 1.5), 0.12 * metre, 0.09 * metre),
        ]
        colours += [legs, legs * 0.9, top * 0.85]
    chest = np.array([at(shoulder, 0.22), at(shoulder, -0.22), at(hip, -0.17), at(hip, 0.17)])
    core = limb(at(shoulder, 0), at(hip, 0), 0.34 * metre, 0.3 * metre)
    head = at(shoulder + [0.06, 0.2], 0)
    shapes += [
        core,
        chest,
        disc(head, 0.125 * metre, 9),
        disc(head - [0, 0.05 * metre], 0.14 * metre if helmet else 0.12 * metre, 9),
    ]
    cover = rng.uniform(20, 230) + rng.normal(0, 15, 3) if helmet else hair
    colours += [top, top, skin, cover]
    if rng.random() < 0.25:
        shapes.append(limb(at(shoulder - [0.12, 0.08], 0), at(hip + [-0.14, 0.15], 0), 0.3 * metre))
        colours.append(clothing(rng, 1)[0])
    canvas.fills(shapes, np.clip(np.array(colours) * tone, 0, 255), number)


def _side(canvas: Canvas, frame: Frame, points: np.ndarray, x: float = 0.0) -> np.ndarray:
    """Canvas positions of (ahead, up) points of the vehicle's middle plane, or `x` metres to its right."""
    world = frame.world(np.stack([np.full(len(points), x), points[:, 1], points[:, 0]], axis=1))
    viewed = canvas.camera.view(world)
    viewed[:, 2] = np.maximum(viewed[:, 2], 0.4)
    return canvas.camera.pixels(viewed, canvas.scale)


def _wheel(canvas: Canvas, frame: Frame, centre, radius: float, number: int, cover: float) -> None:
    ring = _side(canvas, frame, disc(centre, radius, 14))
    thick = frame.world(
        np.array(
            [[-0.035, 0.02, centre[0]], [0.035, 0.02, centre[0]], [0.035, 2 * radius, centre[0]], [-0.035, 2 * radius, centre[0]]]
        )
    )
    canvas.veil(ring, (60, 60, 62), cover, number)
    metre = canvas.camera.focal * canvas.scale / _depth(canvas, frame)
    canvas.polygon(thick, (26, 26, 28), number)
    canvas.strokes([np.concatenate([ring, ring[:1]])], (28, 28, 30), number, 0.05 * metre)


def _depth(canvas: Canvas, frame: Frame) -> float:
    return max(float(canvas.camera.view(frame.origin)[2]), 0.5)

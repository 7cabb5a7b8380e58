"""Things that stand along a street: poles, lamps, lights, signs, fences, walls, and small things without a class."""

from __future__ import annotations

import math

import numpy as np

from data_pipelines.streets.canvas import VOID, Canvas
from data_pipelines.streets.draws import pick
from data_pipelines.streets.people import Billboard
from data_pipelines.streets.solids import Frame, Sketch, box, disc, rectangle
from data_pipelines.streets.vehicles import hull_shadow

WALL, FENCE, POLE, LIGHT, SIGN = 3, 4, 5, 6, 7
LAMP_COLOURS = {(255, 196, 120): 0.5, (255, 224, 180): 0.3, (235, 240, 255): 0.2}


def post(canvas: Canvas, frame: Frame, height: float, radius: float, colour, number: int | None = None) -> int:
    """A round upright post; returns its object number."""
    base, depth = canvas.place(frame.origin)
    tip, _ = canvas.place(frame.origin + [0, height, 0])
    number = canvas.number(POLE, depth) if number is None else number
    half = max(radius * canvas.camera.focal * canvas.scale / max(depth, 0.5), 0.6)
    (x0, y0), (x1, y1) = base, tip
    bright = [
        np.array([(x0 + a, y0), (x0 + b, y0), (x1 + 0.8 * b, y1), (x1 + 0.8 * a, y1)]) for a, b in ((-half, 0.0), (0.0, half))
    ]
    tones = np.array([canvas.light.on((-0.7, 0, -0.7)), canvas.light.on((0.7, 0, -0.7))])
    canvas.fills(bright, np.asarray(colour) * tones, number)
    if canvas.light.sun_power > 0.15 and depth < 60:
        foot = frame.world(np.array([[-radius, 0, 0], [radius, 0, 0]]))
        canvas.shadow(np.concatenate([foot, foot[::-1] + canvas.light.cast * height]), int(120 * canvas.light.sun_power))
    return number


def lamp(canvas: Canvas, rng: np.random.Generator, frame: Frame, reach: float) -> None:
    """A street lamp whose arm reaches `reach` metres to its right."""
    height, colour = rng.uniform(5.5, 10), pick(rng, (60, 90, 130, 160)) + rng.normal(0, 5, 3)
    number = post(canvas, frame, height, rng.uniform(0.06, 0.11), colour)
    head = frame.world([reach, height + 0.25, 0])
    metre = canvas.camera.focal * canvas.scale / canvas.place(frame.origin)[1]
    arm = canvas.project(np.stack([frame.world([0, height - 0.1, 0]), frame.world([reach * 0.5, height + 0.2, 0]), head]))
    if arm is not None:
        canvas.strokes([arm], colour * canvas.light.on((0, 0, -1)), number, max(0.09 * metre, 1))
        canvas.fill(
            arm[-1] + np.array([[-0.4, 0.1], [0.35, 0.1], [0.3, -0.1], [-0.35, -0.1]]) * metre, np.array([190, 190, 184]), number
        )
    canvas.lamp(head, pick(rng, LAMP_COLOURS), 1.0, "lamp")


def pole(canvas: Canvas, rng: np.random.Generator, frame: Frame, reach: float) -> None:
    """A plain pole: short bollard, mast, or wooden utility pole with a crossbar."""
    kind = rng.random()
    if kind < 0.35:
        post(canvas, frame, rng.uniform(0.8, 1.1), rng.uniform(0.05, 0.09), pick(rng, (50, 120, 200)) + rng.normal(0, 8, 3))
    elif kind < 0.7:
        post(canvas, frame, rng.uniform(3, 8), rng.uniform(0.05, 0.1), rng.uniform(70, 150) + rng.normal(0, 5, 3))
    else:
        brown = np.array([96, 80, 62]) * rng.uniform(0.7, 1.2)
        height = rng.uniform(7, 9)
        number = post(canvas, frame, height, 0.14, brown)
        bar = canvas.project(frame.world(np.array([[-1.1, height - 0.6, 0], [1.1, height - 0.6, 0]])))
        if bar is not None:
            metre = canvas.camera.focal * canvas.scale / canvas.place(frame.origin)[1]
            canvas.strokes([bar], brown * 0.8, number, max(0.14 * metre, 1))


def traffic_light(canvas: Canvas, rng: np.random.Generator, frame: Frame, reach: float) -> None:
    """A signal on a post, with a second head over the road when `reach` is not zero."""
    height, grey = rng.uniform(3.2, 4.2), rng.uniform(60, 150)
    mast = post(canvas, frame, height if reach == 0 else 6.2, 0.08, np.full(3, grey))
    state, facing = pick(rng, {0: 0.4, 1: 0.15, 2: 0.4, 3: 0.05}), rng.random() < 0.8
    yellow = rng.random() < 0.25
    heads = [frame.world([0.22, height - 0.5, -0.1])]
    if reach:
        arm = canvas.project(frame.world(np.array([[0, 6.1, 0], [reach, 6.2, 0]])))
        if arm is not None:
            metre = canvas.camera.focal * canvas.scale / canvas.place(frame.origin)[1]
            canvas.strokes([arm], np.full(3, grey * 0.8), mast, max(0.12 * metre, 1))
        heads.append(frame.world([reach, 5.7, -0.1]))
    for point in heads:
        head = Frame(point[0], point[2], 0.0, point[1])
        board = Billboard(canvas, head, 1.0)
        number = canvas.number(LIGHT, board.depth)
        shell = np.array([205, 165, 40.0]) if yellow else np.array([30, 32, 32.0])
        shapes = (
            [rectangle(-0.28, -0.6, 0.28, 0.6), rectangle(-0.19, -0.5, 0.19, 0.5)]
            if rng.random() < 0.4
            else [rectangle(-0.18, -0.5, 0.18, 0.5)]
        )
        colours = [np.full(3, 24.0), shell][-len(shapes) :]
        for k, lit in enumerate(((255, 40, 30), (255, 180, 40), (60, 255, 150))):
            shapes.append(disc((0, 0.31 - 0.31 * k), 0.125, 9))
            on = facing and k == state
            colours.append(np.array(lit if on else (44, 42, 40), float))
            if on:
                canvas.lamp(point + [0, 0.31 - 0.31 * k, 0], lit, 0.35, "signal")
        board.draw(canvas, shapes, np.array(colours), number)


def sign(canvas: Canvas, rng: np.random.Generator, frame: Frame, reach: float) -> None:
    """A traffic sign on a post: round, triangle, square, octagon, panel, or its grey back."""
    height = rng.uniform(2.1, 3.0)
    post(canvas, frame, height + 0.3, 0.035, rng.uniform(110, 170) + np.zeros(3))
    for k in range(1 + (rng.random() < 0.25)):
        point = frame.world([0, height - 0.75 * k, -0.06])
        board = Billboard(canvas, Frame(point[0], point[2], 0, point[1]), rng.uniform(0.9, 1.3))
        number = canvas.number(SIGN, board.depth)
        shapes, colours = _sign_face(rng)
        board.draw(canvas, shapes, np.array(colours) * canvas.light.on((0, 0, -1)), number)


def _sign_face(rng: np.random.Generator):
    red, blue, white, yellow, black = (190, 24, 30), (24, 70, 160), (236, 236, 232), (236, 190, 30), (20, 20, 22)
    kind = pick(rng, {0: 0.2, 1: 0.14, 2: 0.14, 3: 0.12, 4: 0.08, 5: 0.12, 6: 0.1, 7: 0.1})
    circle, small = disc((0, 0), 0.33, 14), disc((0, 0), 0.24, 14)
    triangle = np.array([[0, 0.36], [0.36, -0.27], [-0.36, -0.27]])
    bar = rectangle(-0.2, -0.06, 0.2, 0.06)
    faces = (
        ([circle, small, bar * [0.5, 2]], [red, white, black]),
        ([circle, bar], [red, white]),
        ([triangle, triangle * 0.66], [red, white]),
        ([circle, rectangle(-0.06, -0.2, 0.06, 0.2)], [blue, white]),
        (
            [np.array([[0, 0.36], [0.36, 0], [0, -0.36], [-0.36, 0]]), np.array([[0, 0.27], [0.27, 0], [0, -0.27], [-0.27, 0]])],
            [white, yellow],
        ),
        ([rectangle(-0.3, -0.3, 0.3, 0.3), rectangle(-0.1, -0.2, 0.1, 0.2)], [blue, white]),
        (
            [rectangle(-0.55, -0.28, 0.55, 0.28), rectangle(-0.45, 0.04, 0.3, 0.12), rectangle(-0.45, -0.14, 0.4, -0.06)],
            [pick(rng, (blue, (20, 110, 60), white, yellow)), (200, 200, 196), (200, 200, 196)],
        ),
        ([disc((0, 0), 0.33, 8)], [(140, 142, 142)]),
    )
    return faces[kind]


def bins(canvas: Canvas, rng: np.random.Generator, frame: Frame, reach: float) -> None:
    """A bin, box or bench: things without one of the nineteen classes."""
    depth = float(canvas.camera.view(frame.origin)[2])
    number = canvas.number(VOID, depth)
    colour = np.array(
        [(50, 80, 50), (60, 62, 66), (120, 60, 40), (160, 160, 158), (190, 150, 40)][rng.integers(5)]
    ) * rng.uniform(0.8, 1.2)
    wide, tall, long = rng.uniform(0.25, 0.5), rng.uniform(0.6, 1.4), rng.uniform(0.25, 0.9)
    sketch = Sketch(canvas, frame, number)
    box(sketch, (-wide, 0, -long), (wide, tall, long), colour)
    sketch.draw()
    ground = frame.world(np.array([[-wide, 0, -long], [wide, 0, -long], [wide, 0, long], [-wide, 0, long]]))
    canvas.shadow(ground + [0, -ground[0, 1], 0], 190)


BARRIERS = {
    "wall": ((150, 144, 134), (128, 84, 68), (190, 184, 170), (110, 108, 104)),
    "fence": ((70, 74, 72), (40, 60, 48), (150, 152, 150), (130, 96, 64), (214, 214, 208)),
    "rail": ((160, 164, 166), (140, 140, 138)),
}
DARK_FENCES = {
    (42, 44, 43): 0.3, (30, 42, 34): 0.2, (70, 74, 72): 0.15, (84, 62, 44): 0.2, (130, 96, 64): 0.08, (150, 152, 150): 0.07
}  # fmt: skip
BANDS = {"wall": ((1.0, 1.2, 0.1),), "fence": ((0.33, 0.75, 0.04), (0.7, 0.75, 0.04)), "rail": ((0.75, 0.65, 0.06),)}


def barrier(canvas: Canvas, rng: np.random.Generator, far: np.ndarray, near: np.ndarray, kind: str, height: float) -> None:
    """A wall, fence or guard rail between two ground points."""
    palette = DARK_FENCES if kind == "fence" and canvas.edition > 1 else BARRIERS[kind]
    colour = np.array(pick(rng, palette)) * rng.uniform(0.8, 1.1)
    see_through = rng.random() < 0.65 and kind == "fence"
    along = near - far
    normal = np.array([along[2], 0, -along[0]]) / (math.hypot(along[0], along[2]) + 1e-9)
    normal = normal if normal @ (canvas.camera.position - near) > 0 else -normal
    low = 0.35 if kind == "rail" else 0.0
    panel = _upright(far, near, low, height)
    corners = canvas.project(panel)
    if corners is None or canvas.window(corners) is None:
        return
    number = canvas.number(WALL if kind == "wall" else FENCE, plane=canvas.camera.inverse_depth(normal, float(normal @ near)))
    colour = colour * canvas.light.on(normal)
    if see_through:
        _bars(canvas, far, near, height, corners, colour, number)
        return
    faces, colours = [panel], [colour]
    for share, shade, thick in BANDS[kind]:
        faces.append(_upright(far, near, height * share - thick, height * share))
        colours.append(colour * shade)
    for share in np.arange(0.02, 1, 3.0 / max(np.linalg.norm(along), 3.0)) if kind == "rail" else ():
        foot = far + along * share
        faces.append(_upright(foot, foot + [0.12, 0, 0], 0, 0.4))
        colours.append(colour * 0.7)
    canvas.polygons(faces, np.array(colours), number)
    if kind != "rail" and canvas.light.sun_power > 0.15:
        canvas.shadow(hull_shadow(np.array([far, near]), canvas.light.cast * height), int(150 * canvas.light.sun_power))


def _upright(far: np.ndarray, near: np.ndarray, low: float, high: float) -> np.ndarray:
    """A rectangle [4, 3] that stands on the line between two ground points."""
    face = np.array([far, near, near, far])
    face[:, 1] = (low, low, high, high)
    return face


def _bars(canvas: Canvas, far: np.ndarray, near: np.ndarray, height: float, corners: np.ndarray, colour, number: int) -> None:
    """Uprights and rails of a fence one can look through."""
    canvas.veil(corners, colour, 0.22, number)
    depth = float(canvas.camera.view((far + near) / 2)[2])
    count = int(np.clip(np.linalg.norm(near - far) / (0.35 if depth < 30 else 0.8), 2, 60))
    lines = np.empty((count + 2, 2, 3))
    lines[:count] = (far + (near - far) * np.linspace(0, 1, count)[:, None])[:, None]
    lines[count:] = np.array([far, near])
    lines[:count, 0, 1], lines[:count, 1, 1] = 0, height
    lines[count, :, 1], lines[count + 1, :, 1] = height * 0.15, height
    canvas.strokes(list(canvas.project(lines)), colour, number, 0.03 * canvas.camera.focal * canvas.scale / depth)

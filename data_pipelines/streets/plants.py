"""Trees, bushes, hedges and distant woods."""

from __future__ import annotations

import cv2
import numpy as np

from data_pipelines.streets.canvas import Canvas
from data_pipelines.streets.furniture import post
from data_pipelines.streets.solids import Frame
from data_pipelines.streets.textures import bare_crowns, canopies

VEGETATION = 8
GREENS = np.array([(78, 104, 48), (62, 88, 44), (96, 116, 58), (54, 76, 46), (110, 120, 60), (86, 96, 60), (128, 112, 54), (140, 92, 44)], float)
GREEN_ODDS = np.array([5, 5, 4, 4, 3, 3, 1, 0.6])
GREEN_ODDS /= GREEN_ODDS.sum()


def tree(canvas: Canvas, rng: np.random.Generator, frame: Frame, size: float, kind: str) -> None:
    """A tree of a total height in metres: `tree`, `conifer`, `palm` or `bare`."""
    width = size * {"tree": rng.uniform(0.6, 1.0), "conifer": rng.uniform(0.35, 0.5), "palm": rng.uniform(0.45, 0.6), "bare": rng.uniform(0.6, 0.9)}[kind]
    low = size * {"tree": rng.uniform(0.15, 0.35), "conifer": 0.04, "palm": 0.62, "bare": 0.12}[kind]
    bark = np.array([92, 78, 64]) * rng.uniform(0.55, 1.15)
    number = canvas.number(VEGETATION, float(canvas.camera.view(frame.origin)[2]))
    radius = 0.022 * size * rng.uniform(0.7, 1.3) * (0.6 if kind == "palm" else 1)
    post(canvas, frame, low + 0.25 * (size - low), radius, bark, number)
    if kind != "bare":
        _crown_shadow(canvas, rng, frame, width, (low + size) / 2)
    if kind == "bare":
        mask = bare_crowns()[rng.integers(8)]
        crown(canvas, frame, width, low, size, np.full_like(mask, 110), mask, bark * 1.1, number)
    else:
        crowns = canopies(kind)
        tint = GREENS[rng.choice(len(GREENS), p=GREEN_ODDS)] * rng.uniform(0.75, 1.2)
        crown(canvas, frame, width, low, size, *crowns[rng.integers(len(crowns))], tint, number, rng.random() < 0.5)


def crown(canvas: Canvas, frame: Frame, width: float, low: float, high: float, shade, mask, tint, number: int, mirrored: bool = False) -> None:
    """Paste a crown that spans `low` to `high` metres above the ground."""
    top, depth = canvas.place(frame.world([0, high, 0]))
    metre = canvas.camera.focal * canvas.scale / max(depth, 0.5)
    w, h = int(np.clip(width * metre, 2, 1400)), int(np.clip((high - low) * metre, 2, 1400))
    if mirrored:
        shade, mask = shade[:, ::-1], mask[:, ::-1]
    how = cv2.INTER_AREA if w < shade.shape[1] else cv2.INTER_LINEAR
    shade = cv2.resize(np.ascontiguousarray(shade), (w, h), interpolation=how)
    mask = (cv2.resize(np.ascontiguousarray(mask), (w, h), interpolation=how) > 110).astype(np.uint8)
    steps = np.linspace(0, 2, 256)[:, None] ** 1.25 * np.asarray(tint) * canvas.light.on((-0.3, 0.6, -0.7))
    table = np.clip(steps + np.array([14, 14, 4]) * (np.linspace(0, 1, 256)[:, None] > 0.6), 0, 255).astype(np.uint8)
    canvas.sprite(top[0] - w / 2, top[1], table[shade], mask, number)


def _crown_shadow(canvas: Canvas, rng: np.random.Generator, frame: Frame, width: float, height: float) -> None:
    centre = frame.origin + canvas.light.cast * height
    centre[1] = 0
    blobs = zip(*rng.uniform(-0.3, 0.3, (2, 5)), rng.uniform(0.2, 0.45, 5), strict=True)
    for dx, dz, r in blobs if canvas.light.sun_power > 0.15 else ():
        angle = np.linspace(0, 2 * np.pi, 9)[:-1]
        blob = np.stack([centre[0] + width * (dx + r * np.cos(angle)), np.zeros(8), centre[2] + width * (dz + r * np.sin(angle))], axis=1)
        canvas.shadow(blob, int(140 * canvas.light.sun_power))


def bush(canvas: Canvas, rng: np.random.Generator, frame: Frame, size: float, kind: str) -> None:
    """A bush of a height in metres."""
    number = canvas.number(VEGETATION, float(canvas.camera.view(frame.origin)[2]))
    bushes = canopies("bush")
    tint = GREENS[rng.choice(len(GREENS), p=GREEN_ODDS)] * rng.uniform(0.7, 1.1)
    crown(canvas, frame, size * rng.uniform(1.2, 2.2), -0.25 * size, size, *bushes[rng.integers(len(bushes))], tint, number, rng.random() < 0.5)


def hedge(canvas: Canvas, rng: np.random.Generator, points: np.ndarray, height: float) -> None:
    """A cut hedge along ground points [n, 3], far to near."""
    tint = GREENS[rng.choice(len(GREENS), p=GREEN_ODDS)] * rng.uniform(0.6, 1.0)
    for far, near in zip(points[:-1], points[1:], strict=True):
        along = near - far
        normal = np.array([along[2], 0, -along[0]]) / (np.hypot(along[0], along[2]) + 1e-9)
        normal = normal if normal @ (canvas.camera.position - near) > 0 else -normal
        number = canvas.number(VEGETATION, plane=canvas.camera.inverse_depth(normal, float(normal @ near)))
        count = 7
        share = np.linspace(0, 1, count)
        ridge = far + along * share[::-1, None] + np.stack([np.zeros(count), height * rng.uniform(0.9, 1.08, count), np.zeros(count)], axis=1)
        canvas.polygon(np.concatenate([[far, near], ridge]), tint * canvas.light.on(normal), number)
        band = np.concatenate([[far + [0, height * 0.75, 0], near + [0, height * 0.75, 0]], ridge])
        canvas.polygon(band, tint * 1.25 * canvas.light.on(normal), number)


def woods(canvas: Canvas, rng: np.random.Generator, distance: float, height: float) -> None:
    """A line of distant trees right across the view."""
    number = canvas.number(VEGETATION, distance)
    tint = GREENS[rng.choice(len(GREENS), p=GREEN_ODDS)] * rng.uniform(0.6, 0.95)
    x = np.linspace(-1.3 * distance, 1.3 * distance, 90)
    rough = np.convolve(rng.random(94), np.ones(5) / 5, "valid")
    ridge = np.stack([x, height * (0.35 + 0.9 * rough) + 0.6 * rng.random(90), np.full(90, distance)], axis=1)
    base = np.array([[x[-1], 0, distance], [x[0], 0, distance]])
    canvas.polygon(np.concatenate([ridge, base]), tint * canvas.light.on((0, 0.5, -0.8)), number)

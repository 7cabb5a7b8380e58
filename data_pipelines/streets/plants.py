"""Trees, bushes, hedges and distant woods."""

from __future__ import annotations

import cv2
import numpy as np

from data_pipelines.streets.canvas import Canvas
from data_pipelines.streets.furniture import post
from data_pipelines.streets.solids import Frame
from data_pipelines.streets.textures import bare_crowns, bare_hulls, canopies

VEGETATION = 8
GREENS = np.array(
    [(78, 104, 48), (62, 88, 44), (96, 116, 58), (54, 76, 46), (110, 120, 60), (86, 96, 60), (128, 112, 54), (140, 92, 44)], float
)
GREEN_ODDS = np.array([5, 5, 4, 4, 3, 3, 1, 0.6])
GREEN_ODDS = np.cumsum(GREEN_ODDS) / GREEN_ODDS.sum()
_STEPS = np.linspace(0, 2, 256)[:, None] ** 1.25
_RING = np.stack([np.cos(np.arange(16) * np.pi / 8), np.zeros(16), np.sin(np.arange(16) * np.pi / 8)], axis=1)
_GLINT = np.array([14, 14, 4]) * (_STEPS > 1.3)


def tree(canvas: Canvas, rng: np.random.Generator, frame: Frame, size: float, kind: str) -> None:
    """A tree of a total height in metres: `tree`, `conifer`, `palm` or `bare`."""
    width = (
        size
        * {
            "tree": rng.uniform(0.6, 1.0),
            "conifer": rng.uniform(0.35, 0.5),
            "palm": rng.uniform(0.45, 0.6),
            "bare": rng.uniform(0.6, 0.9),
        }[kind]
    )
    low = size * {"tree": rng.uniform(0.15, 0.35), "conifer": 0.04, "palm": 0.62, "bare": 0.12}[kind]
    bark = np.array([92, 78, 64]) * rng.uniform(0.55, 1.15)
    number = canvas.number(VEGETATION, float(canvas.camera.view(frame.origin)[2]))
    radius = 0.022 * size * rng.uniform(0.7, 1.3) * (0.6 if kind == "palm" else 1)
    post(canvas, frame, low + 0.25 * (size - low), radius, bark, number)
    if kind != "bare":
        _crown_shadow(canvas, rng, frame, width, (low + size) / 2)
    if kind == "bare":
        which = rng.integers(8)
        mask = bare_crowns()[which]
        if canvas.edition > 1:  # what lies behind shows through the gaps, with twigs too thin to draw
            crown(canvas, frame, width, low, size, np.full_like(mask, 110), bare_hulls()[which], bark * 1.1, number, veil=0.2)
        crown(canvas, frame, width, low, size, np.full_like(mask, 110), mask, bark * 1.1, number)
    else:
        crowns = canopies(kind)
        tint = GREENS[np.searchsorted(GREEN_ODDS, rng.random())] * rng.uniform(0.75, 1.2)
        crown(canvas, frame, width, low, size, *crowns[rng.integers(len(crowns))], tint, number, rng.random() < 0.5)


def crown(
    canvas: Canvas, frame: Frame, width: float, low: float, high: float, shade, mask, tint, number: int, mirrored: bool = False,
    veil: float = 1.0,
) -> None:  # fmt: skip
    """Paste a crown that spans `low` to `high` metres above the ground; below 1, `veil` is how much it hides."""
    top, depth = canvas.place(frame.world([0, high, 0]))
    metre = canvas.camera.focal * canvas.scale / max(depth, 0.5)
    w, h = max(width * metre, 2.0), max((high - low) * metre, 2.0)
    part = canvas.window(np.array([[top[0] - w / 2, top[1]], [top[0] + w / 2, top[1] + h]]))
    if part is None:
        return
    if mirrored:
        shade, mask = shade[:, ::-1], mask[:, ::-1]
    shade, mask = (_seen(picture, part, top[0] - w / 2, top[1], w, h) for picture in (shade, mask))
    tone = np.asarray(tint) * canvas.light.on((-0.3, 0.6, -0.7))
    table = np.zeros((256, 4), np.uint8)
    table[:, :3] = np.clip(_STEPS * tone + _GLINT, 0, 255)
    table[:, 3] = number
    piece = table.view(np.uint32)[:, 0][shade].view(np.uint8).reshape(*shade.shape, 4)
    if veil < 1:
        piece = cv2.addWeighted(canvas.pixels[part], 1 - veil, piece, veil, 0)
        piece[..., 3] = number
    cv2.copyTo(piece, cv2.threshold(mask, 110, 255, cv2.THRESH_BINARY)[1], canvas.pixels[part])


def _seen(picture: np.ndarray, part, left: float, top: float, w: float, h: float) -> np.ndarray:
    """The part of a picture, stretched over w by h canvas pixels from a corner, that falls into a window of the canvas."""
    rows, columns = part
    shape = (columns.stop - columns.start, rows.stop - rows.start)
    fx, fy = picture.shape[1] / w, picture.shape[0] / h
    if max(fx, fy) > 2:
        picture = cv2.resize(np.ascontiguousarray(picture), (max(int(w), 2), max(int(h), 2)), interpolation=cv2.INTER_AREA)
        fx, fy = picture.shape[1] / w, picture.shape[0] / h
    matrix = np.array([[fx, 0, (columns.start - left) * fx], [0, fy, (rows.start - top) * fy]])
    return cv2.warpAffine(np.ascontiguousarray(picture), matrix, shape, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def _crown_shadow(canvas: Canvas, rng: np.random.Generator, frame: Frame, width: float, height: float) -> None:
    radii = width * rng.uniform(0.22, 0.55, 16)
    if canvas.light.sun_power > 0.15 and frame.origin[2] < 70:
        centre = frame.origin + canvas.light.cast * height
        centre[1] = 0
        canvas.shadow(centre + radii[:, None] * _RING, int(140 * canvas.light.sun_power))


def bush(canvas: Canvas, rng: np.random.Generator, frame: Frame, size: float, kind: str) -> None:
    """A bush of a height in metres."""
    number = canvas.number(VEGETATION, float(canvas.camera.view(frame.origin)[2]))
    bushes = canopies("bush")
    tint = GREENS[np.searchsorted(GREEN_ODDS, rng.random())] * rng.uniform(0.7, 1.1)
    crown(
        canvas,
        frame,
        size * rng.uniform(1.2, 2.2),
        -0.25 * size,
        size,
        *bushes[rng.integers(len(bushes))],
        tint,
        number,
        rng.random() < 0.5,
    )


def hedge(canvas: Canvas, rng: np.random.Generator, far: np.ndarray, near: np.ndarray, height: float) -> None:
    """A cut hedge between two ground points."""
    tint = GREENS[np.searchsorted(GREEN_ODDS, rng.random())] * rng.uniform(0.6, 1.0)
    ragged = height * rng.uniform(0.92, 1.06, 24)
    along = near - far
    normal = np.array([along[2], 0, -along[0]]) / (np.hypot(along[0], along[2]) + 1e-9)
    normal = normal if normal @ (canvas.camera.position - near) > 0 else -normal
    number = canvas.number(VEGETATION, plane=canvas.camera.inverse_depth(normal, float(normal @ near)))
    ridge = near - along * np.linspace(0, 1, len(ragged))[:, None]
    ridge[:, 1] = ragged
    tone = canvas.light.on(normal)
    canvas.polygon(np.concatenate([[far, near], ridge]), tint * tone, number)
    canvas.polygon(
        np.concatenate([[far + [0, height * 0.75, 0], near + [0, height * 0.75, 0]], ridge]), tint * 1.25 * tone, number
    )


def woods(canvas: Canvas, rng: np.random.Generator, distance: float, height: float) -> None:
    """A line of distant trees right across the view."""
    number = canvas.number(VEGETATION, distance)
    tint = GREENS[np.searchsorted(GREEN_ODDS, rng.random())] * rng.uniform(0.6, 0.95)
    x = np.linspace(-1.3 * distance, 1.3 * distance, 90)
    rough = np.convolve(rng.random(94), np.ones(5) / 5, "valid")
    ridge = np.stack([x, height * (0.35 + 0.9 * rough) + 0.6 * rng.random(90), np.full(90, distance)], axis=1)
    base = np.array([[x[-1], 0, distance], [x[0], 0, distance]])
    canvas.polygon(np.concatenate([ridge, base]), tint * canvas.light.on((0, 0.5, -0.8)), number)

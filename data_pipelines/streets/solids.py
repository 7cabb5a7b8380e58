"""Solids of the street world: local frames, boxes and extruded side profiles, drawn with the faces that the camera sees."""

from __future__ import annotations

import numpy as np

from data_pipelines.streets.canvas import Canvas


class Frame:
    """A place and a heading: local (right, up, ahead) to world. `heading` is radians from z towards x."""

    def __init__(self, x: float, z: float, heading: float, y: float = 0.0):
        c, s = np.cos(heading), np.sin(heading)
        self.origin = np.array([x, y, z])
        self.axes = np.array([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]])

    def world(self, local) -> np.ndarray:
        return np.asarray(local, float) @ self.axes + self.origin

    def turned(self, direction) -> np.ndarray:
        return np.asarray(direction, float) @ self.axes

    def local_eye(self, canvas: Canvas) -> np.ndarray:
        """The camera's position in this frame."""
        return self.axes @ (canvas.camera.position - self.origin)


def prism(canvas: Canvas, frame: Frame, profile: np.ndarray, width, colours, number: int) -> None:
    """Extrude a side profile across the width and draw the faces seen.

    profile: [n, 2] (ahead, up), clockwise seen with the front to the right; width: one number or [n], the half width at each corner;
    colours: [n + 1, 3], the strip from corner k to k + 1, then the sides.
    """
    n = len(profile)
    half = np.broadcast_to(np.asarray(width, float), (n,))
    right = np.stack([half, profile[:, 1], profile[:, 0]], axis=1)
    left = right * [-1, 1, 1]
    after = np.roll(np.arange(n), -1)
    strips = np.stack([left, right, right[after], left[after]], axis=1)
    normals = np.stack([np.zeros(n), profile[after, 0] - profile[:, 0], profile[:, 1] - profile[after, 1]], axis=1)
    eye = frame.local_eye(canvas)
    seen = np.einsum("kc,kc->k", normals, eye - strips.mean(1)) > 0
    side = right if eye[0] > 0 else left
    side_seen = abs(eye[0]) > half.max()
    tones = np.array([canvas.light.on(frame.turned(v / (np.linalg.norm(v) + 1e-9))) for v in normals])
    order = np.flatnonzero(seen)
    order = order[np.argsort(-np.linalg.norm(strips[order].mean(1) - eye, axis=1))]
    if len(order):
        canvas.quads(frame.world(strips[order]), (np.asarray(colours)[:n] * tones)[order], number)
    if side_seen:
        tone = canvas.light.on(frame.turned([np.sign(eye[0]), 0, 0]))
        canvas.polygon(frame.world(side), np.asarray(colours)[n] * tone, number)


def box(canvas: Canvas, frame: Frame, low, high, colour, number: int) -> None:
    """An upright box between two local corners (right, up, ahead), at most its three visible faces."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    eye = frame.local_eye(canvas)
    faces, tones = [], []
    if eye[2] < z0 or eye[2] > z1:
        z = z0 if eye[2] < z0 else z1
        faces.append([[x0, y0, z], [x1, y0, z], [x1, y1, z], [x0, y1, z]])
        tones.append(canvas.light.on(frame.turned([0, 0, np.sign(eye[2])])))
    if eye[0] < x0 or eye[0] > x1:
        x = x0 if eye[0] < x0 else x1
        faces.append([[x, y0, z0], [x, y0, z1], [x, y1, z1], [x, y1, z0]])
        tones.append(canvas.light.on(frame.turned([np.sign(eye[0]), 0, 0])))
    if eye[1] > y1:
        faces.append([[x0, y1, z0], [x1, y1, z0], [x1, y1, z1], [x0, y1, z1]])
        tones.append(canvas.light.on((0, 1, 0)))
    if faces:
        canvas.quads(frame.world(np.array(faces, float)), np.asarray(colour) * np.array(tones), number)


def on_side(frame: Frame, canvas: Canvas, half: float, points) -> np.ndarray:
    """World points of (ahead, up) positions [..., 2] on the side wall that faces the camera."""
    points = np.asarray(points, float)
    x = np.full(points.shape[:-1], half if frame.local_eye(canvas)[0] > 0 else -half)
    return frame.world(np.stack([x, points[..., 1], points[..., 0]], axis=-1))


def disc(centre, radius: float, corners: int = 12) -> np.ndarray:
    """Corners [n, 2] of a circle."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)], axis=1)


def rectangle(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Corners [4, 2]."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)

"""Solids of the street world: local frames, boxes and extruded side profiles, drawn with the faces that the camera sees."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from data_pipelines.streets.canvas import Canvas

_MIRROR = np.array([-1.0, 1.0, 1.0])


class Frame:
    """A place and a heading: local (right, up, ahead) to world. `heading` is radians from z towards x."""

    def __init__(self, x: float, z: float, heading: float, y: float = 0.0):
        c, s = math.cos(heading), math.sin(heading)
        self.origin = np.array([x, y, z])
        self.axes = np.array([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]])

    def world(self, local) -> np.ndarray:
        """World points [..., 3] of local ones."""
        local = np.asarray(local, float)
        return (local.reshape(-1, 3) @ self.axes + self.origin).reshape(local.shape)

    def turned(self, direction) -> np.ndarray:
        return np.asarray(direction, float) @ self.axes

    def local_eye(self, canvas: Canvas) -> np.ndarray:
        """The camera's position in this frame."""
        return self.axes @ (canvas.camera.position - self.origin)


class Sketch:
    """Convex faces of one object in its local frame, gathered and then projected and drawn in one go."""

    def __init__(self, canvas: Canvas, frame: Frame, number: int):
        self.canvas, self.frame, self.number, self.light = canvas, frame, number, canvas.light
        self.eye = frame.local_eye(canvas)  # the camera's position in local axes
        self.depth = float(canvas.camera.view(frame.origin)[2])
        self.side = 1.0 if self.eye[0] > 0 else -1.0
        self.end = 1.0 if self.eye[2] > 0 else -1.0
        self.faces: list[np.ndarray] = []
        self.colours: list[np.ndarray] = []

    def add(self, face: np.ndarray, colour, tone=1.0) -> None:
        """One face [n, 3] of local points with its colour times a tone."""
        self.faces.append(face)
        self.colours.append(colour * tone)

    def on_side(self, half: float, points, colour, tone=1.0) -> None:
        """One face of (ahead, up) points [n, 2] on the side wall that the camera sees, `half` metres from the middle."""
        points = np.asarray(points, float)
        face = np.empty((len(points), 3))
        face[:, 0], face[:, 1], face[:, 2] = half * self.side, points[:, 1], points[:, 0]
        self.add(face, colour, tone)

    def on_end(self, z: float, points: np.ndarray, colour, tone=1.0) -> None:
        """One face of (right, up) points [n, 2] across the object at `z` metres ahead of its middle."""
        face = np.empty((len(points), 3))
        face[:, :2], face[:, 2] = points, z
        self.add(face, colour, tone)

    def side_tone(self) -> np.ndarray:
        return self.light.on(self.frame.axes[0] * self.side)

    def end_tone(self) -> np.ndarray:
        return self.light.on(self.frame.axes[2] * self.end)

    def draw(self) -> None:
        if self.faces:
            self.canvas.polygons(self.faces, np.array(self.colours), self.number, self.frame.world)
            self.faces, self.colours = [], []


def prism(sketch: Sketch, profile: np.ndarray, width, colours) -> None:
    """Extrude a convex side profile across the width and add the faces seen.

    profile: [n, 2] (ahead, up), clockwise seen with the front to the right; width: one number or [n], the half width at each
    corner; colours: [n + 1, 3], the strip from corner k to k + 1, then the sides.
    """
    n, eye = len(profile), sketch.eye
    right = np.empty((n, 3))
    right[:, 0], right[:, 1:] = width, profile[:, ::-1]
    after = np.concatenate([profile[1:], profile[:1]])
    normals = np.zeros((n, 3))
    normals[:, 1], normals[:, 2] = after[:, 0] - profile[:, 0], profile[:, 1] - after[:, 1]
    seen = np.flatnonzero(((eye - right) * normals).sum(1) > 0)
    if len(seen):
        normals = normals[seen] / np.sqrt((normals[seen] ** 2).sum(1, keepdims=True) + 1e-12)
        strips = np.empty((len(seen), 4, 3))
        strips[:, 1], strips[:, 2] = right[seen], right[(seen + 1) % n]
        strips[:, 0], strips[:, 3] = strips[:, 1] * _MIRROR, strips[:, 2] * _MIRROR
        tones = sketch.light.on_all(sketch.frame.turned(normals))
        for k in np.argsort(-((0.5 * (strips[:, 1] + strips[:, 2]) - eye)[:, 1:] ** 2).sum(1)):
            sketch.add(strips[k], colours[seen[k]], tones[k])
    if abs(eye[0]) > right[:, 0].max():
        sketch.add(right if eye[0] > 0 else right * _MIRROR, colours[n], sketch.side_tone())


def box(sketch: Sketch, low, high, colour) -> None:
    """An upright box between two local corners (right, up, ahead), at most its three visible faces."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    eye = sketch.eye
    if eye[2] < z0 or eye[2] > z1:
        sketch.on_end(z0 if eye[2] < z0 else z1, rectangle(x0, y0, x1, y1), colour, sketch.end_tone())
    if eye[0] < x0 or eye[0] > x1:
        x = x0 if eye[0] < x0 else x1
        sketch.add(np.array([[x, y0, z0], [x, y0, z1], [x, y1, z1], [x, y1, z0]]), colour, sketch.side_tone())
    if eye[1] > y1:
        sketch.add(np.array([[x0, y1, z0], [x1, y1, z0], [x1, y1, z1], [x0, y1, z1]]), colour, sketch.light.on((0, 1, 0)))


@cache
def _circle(corners: int) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def disc(centre, radius: float, corners: int = 12) -> np.ndarray:
    """Corners [n, 2] of a circle."""
    return _circle(corners) * radius + centre


def rectangle(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Corners [4, 2]."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)

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


def prism(canvas: Canvas, frame: Frame, profile: np.ndarray, width, colours, number: int) -> None:
    """Extrude a side profile across the width and draw the faces seen.

    profile: [n, 2] (ahead, up), clockwise seen with the front to the right; width: one number or [n], the half width at each corner;
    colours: [n + 1, 3], the strip from corner k to k + 1, then the sides.
    """
    n = len(profile)
    right = np.empty((n, 3))
    right[:, 0], right[:, 1:] = width, profile[:, ::-1]
    eye = frame.local_eye(canvas)
    after = np.concatenate([profile[1:], profile[:1]])
    normals = np.zeros((n, 3))
    normals[:, 1], normals[:, 2] = after[:, 0] - profile[:, 0], profile[:, 1] - after[:, 1]
    seen = np.flatnonzero(((eye - right) * normals).sum(1) > 0)
    colours = np.asarray(colours)
    if len(seen):
        normals = normals[seen] / np.sqrt((normals[seen] ** 2).sum(1, keepdims=True) + 1e-12)
        strips = np.empty((len(seen), 4, 3))
        strips[:, 1], strips[:, 2] = right[seen], right[(seen + 1) % n]
        strips[:, 0], strips[:, 3] = strips[:, 1] * _MIRROR, strips[:, 2] * _MIRROR
        order = np.argsort(-((0.5 * (strips[:, 1] + strips[:, 2]) - eye)[:, 1:] ** 2).sum(1))
        canvas.quads(frame.world(strips[order]), (colours[seen] * canvas.light.on_all(frame.turned(normals)))[order], number)
    if abs(eye[0]) > right[:, 0].max():
        tone = canvas.light.on(frame.turned([np.sign(eye[0]), 0, 0]))
        canvas.polygon(frame.world(right if eye[0] > 0 else right * _MIRROR), colours[n] * tone, number)


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
    local = np.empty((*points.shape[:-1], 3))
    local[..., 0] = half if frame.local_eye(canvas)[0] > 0 else -half
    local[..., 1], local[..., 2] = points[..., 1], points[..., 0]
    return frame.world(local)


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

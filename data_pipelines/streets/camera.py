"""The pinhole camera of the street world. World axes in metres: x to the right, y up (0 = road), z ahead."""

from __future__ import annotations

import math

import numpy as np

NEAR = 0.4  # metres; what lies nearer is cut off


class Camera:
    """A pinhole at `(x, height, 0)`.

    Angles are radians (`pitch` > 0 looks down, `yaw` > 0 looks right); `focal` and `centre` are pixels of the final image.
    """

    def __init__(self, x: float, height: float, yaw: float, pitch: float, roll: float, focal: float, centre: tuple[float, float]):
        self.focal, self.centre = focal, centre
        self.position = np.array([x, height, 0.0])
        self.axes = _rotation(yaw, pitch, roll)  # rows: right, down, forward
        self._turn = np.ascontiguousarray(self.axes.T)
        self._shift = self.position @ self._turn
        self._middle = np.array(centre)

    def view(self, points: np.ndarray) -> np.ndarray:
        """World points [..., 3] in camera axes (right, down, forward)."""
        return (points.reshape(-1, 3) @ self._turn - self._shift).reshape(points.shape)

    def pixels(self, viewed: np.ndarray, scale: float = 1.0) -> np.ndarray:
        """Pixel positions [..., 2] of points in camera axes, on a canvas `scale` times the image."""
        return viewed[..., :2] * (self.focal * scale / viewed[..., 2:]) + self._middle * scale

    def inverse_depth(self, normal, offset: float) -> np.ndarray:
        """(a, b, c) such that 1 / depth = a * px + b * py + c on the plane `normal . p = offset`."""
        a, b, c = self.ray_component(normal)
        return np.array([a, b, c]) / (offset - float(np.dot(normal, self.position)))

    def ray_component(self, direction) -> tuple[float, float, float]:
        """(a, b, c): the component along a world direction of the ray through pixel (px, py), at unit depth."""
        gx, gy, gz = self.axes @ np.asarray(direction, float)
        a, b = gx / self.focal, gy / self.focal
        return a, b, gz - a * self.centre[0] - b * self.centre[1]

    def horizon(self, column: float) -> float:
        """Image row of the horizon at a column."""
        a, b, c = self.ray_component((0.0, 1.0, 0.0))
        return -(a * column + c) / b


def _rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    cy, sy, cp, sp, cr, sr = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch), math.cos(roll), math.sin(roll)
    forward = np.array([sy * cp, -sp, cy * cp])
    right = np.array([cy, 0.0, -sy])
    down = np.cross(right, forward)
    return np.stack([cr * right + sr * down, cr * down - sr * right, forward])


def clip_near(polygon: np.ndarray) -> np.ndarray:
    """A polygon [n, 3] in camera axes without the part nearer than NEAR (possibly no points)."""
    ahead = polygon[:, 2] >= NEAR
    if ahead.all():
        return polygon
    if not ahead.any():
        return polygon[:0]
    kept, after = [], np.roll(polygon, -1, axis=0)
    for p, q, inside, next_inside in zip(polygon, after, ahead, np.roll(ahead, -1), strict=True):
        if inside:
            kept.append(p)
        if inside != next_inside:
            kept.append(p + (q - p) * ((NEAR - p[2]) / (q[2] - p[2])))
    return np.array(kept)

"""The drawing surface: colour and object number are written by the same call, so labels are exact by construction."""

from __future__ import annotations

import math

import cv2
import numpy as np

from data_pipelines.streets.camera import NEAR, Camera, clip_near

VOID = 255
SKY = 10
SHIFT = 3  # fractional bits of polygon corners


class Canvas:
    """Pixels [H * scale, W * scale, 4] uint8 (red, green, blue, object number), painted far to near.

    Every object number has a class and a plane of inverse depth, so that depth, haze and light are computed later per pixel.
    `shade` [H, W] uint8 gathers cast shadows, used on the ground only; `edition` is that of the pictures.
    """

    def __init__(self, camera: Camera, size: tuple[int, int], scale: int, light, edition: int):
        self.camera, self.size, self.scale, self.light, self.edition = camera, size, scale, light, edition
        self.pixels = np.zeros((size[0] * scale, size[1] * scale, 4), np.uint8)
        self.shade = np.zeros(size, np.uint8)
        self.classes, self.planes, self.shining = [SKY], [(0.0, 0.0, 0.0)], [0.0]
        self.lamps: list[tuple[np.ndarray, tuple[float, float, float], float, str]] = []

    def number(self, label: int, depth: float = 0.0, plane=None, shine: float = 0.0) -> int:
        """A new object number of a class, at a constant depth or on a plane (a, b, c) of inverse depth."""
        plane = tuple(plane) if plane is not None else (0.0, 0.0, 1.0 / max(depth, NEAR))
        if len(self.classes) >= 255:  # eight bits are full: share the number of the most recent object of the class
            for number in range(254, 0, -1):
                if self.classes[number] == label:
                    return number
        number = min(len(self.classes), 255)
        del self.classes[number:], self.planes[number:], self.shining[number:]
        self.classes.append(label)
        self.planes.append(plane)
        self.shining.append(shine)
        return number

    def polygon(self, points: np.ndarray, colour, number: int) -> None:
        """Fill one polygon of world points [n, 3]; it need not be convex."""
        self._clipped(self.camera.view(points), colour, number)

    def polygons(self, polygons, colours, number: int, to_world=None) -> None:
        """Fill convex polygons of points, each [n, 3], in order, with colours [k, 3]: one projection for all.

        `to_world` maps points [m, 3] to world axes; without it they are world points.
        """
        if not len(polygons):
            return
        points = np.concatenate(polygons)
        viewed = self.camera.view(points if to_world is None else to_world(points))
        if viewed[:, 2].min() < NEAR:
            bounds = np.cumsum([len(polygon) for polygon in polygons])[:-1]
            for corners, colour in zip(np.split(viewed, bounds), colours, strict=True):
                self._clipped(corners, colour, number)
        else:
            self._fill_all(self.camera.pixels(viewed, self.scale), polygons, colours, number)

    def _clipped(self, viewed: np.ndarray, colour, number: int) -> None:
        viewed = clip_near(viewed)
        if len(viewed) >= 3:
            self.fill(self.camera.pixels(viewed, self.scale), colour, number)

    def fill(self, pixels: np.ndarray, colour, number: int) -> None:
        """Fill one polygon of canvas positions [n, 2]."""
        cv2.fillPoly(self.pixels, [_fixed(pixels)], (*_colour(colour), number), 8, SHIFT)

    def fills(self, polygons: list[np.ndarray], colours, number: int, origin=(0.0, 0.0), metre=(1.0, 1.0)) -> None:
        """Fill convex polygons [n, 2], given in canvas positions or in units of `metre` from an origin."""
        self._fill_all(np.concatenate(polygons) * np.asarray(metre) + np.asarray(origin), polygons, colours, number)

    def _fill_all(self, pixels: np.ndarray, polygons, colours, number: int) -> None:
        corners, start = _fixed(pixels), 0
        for polygon, colour in zip(polygons, np.minimum(np.maximum(colours, 0.0), 255.0).tolist(), strict=True):
            end = start + len(polygon)
            cv2.fillConvexPoly(self.pixels, corners[start:end], (*colour, number), 8, SHIFT)
            start = end

    def strokes(self, lines: list[np.ndarray], colour, number: int, thickness: float) -> None:
        """Draw open lines of canvas positions, each [n, 2]."""
        width = max(1, int(round(thickness)))
        cv2.polylines(self.pixels, [_fixed(line) for line in lines], False, (*_colour(colour), number), width, 8, SHIFT)

    def place(self, points) -> tuple[np.ndarray, float]:
        """Canvas position [2] and depth of one world point."""
        viewed = self.camera.view(np.asarray(points, float))
        return self.camera.pixels(np.maximum(viewed, [-1e9, -1e9, NEAR]), self.scale), float(viewed[2])

    def project(self, points: np.ndarray) -> np.ndarray | None:
        """Canvas positions [..., 2] of world points, None when one of them lies behind the camera."""
        viewed = self.camera.view(points)
        return None if viewed[..., 2].min() < NEAR else self.camera.pixels(viewed, self.scale)

    def window(self, pixels: np.ndarray) -> tuple[slice, slice] | None:
        """The part of the canvas that a set of positions covers, None when it lies outside."""
        (x0, y0), (x1, y1) = pixels.min(0).tolist(), pixels.max(0).tolist()
        h, w = self.pixels.shape[:2]
        x0, y0, x1, y1 = max(math.floor(x0), 0), max(math.floor(y0), 0), min(math.ceil(x1) + 1, w), min(math.ceil(y1) + 1, h)
        return None if x1 <= x0 or y1 <= y0 else (slice(y0, y1), slice(x0, x1))

    def texture(self, corners: np.ndarray, texture: np.ndarray, number: int, bright: int | None = None) -> None:
        """Lay an image [h, w, 4] on canvas positions [4, 2] (its top left, top right, bottom right, bottom left).

        Where its fourth channel is above 127 the object number is `bright` instead of `number`.
        """
        part = self.window(corners)
        if part is None:
            return
        rows, columns = part
        origin = np.array([columns.start, rows.start], np.float32)
        target = (corners - origin).astype(np.float32)
        texture = _shrunk(texture, np.abs(corners[1] - corners[0]).max(), np.abs(corners[3] - corners[0]).max())
        h, w = texture.shape[:2]
        source = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32) - 0.5
        shape = (columns.stop - columns.start, rows.stop - rows.start)
        laid = cv2.warpPerspective(
            texture, cv2.getPerspectiveTransform(source, target), shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        mask = np.zeros(shape[::-1], np.uint8)
        cv2.fillConvexPoly(mask, _fixed(target), 255, 8, SHIFT)
        laid[..., 3] = number if bright is None else np.where(laid[..., 3] > 127, bright, number)
        cv2.copyTo(laid, mask, self.pixels[rows, columns])

    def veil(self, pixels: np.ndarray, colour, strength: float, number: int) -> None:
        """Fill a polygon of canvas positions with the object number while what lies behind still shows through."""
        part = self.window(pixels)
        if part is None:
            return
        rows, columns = part
        behind = self.pixels[rows, columns]
        blend = cv2.addWeighted(behind, 1 - strength, np.full_like(behind, (*_colour(colour), 0)), strength, 0)
        blend[..., 3] = number
        mask = np.zeros(behind.shape[:2], np.uint8)
        cv2.fillPoly(mask, [_fixed(pixels - [columns.start, rows.start])], 255, 8, SHIFT)
        cv2.copyTo(blend, mask, behind)

    def shadow(self, points: np.ndarray, strength: int) -> None:
        """Darken the ground inside a polygon of world points [n, 3] (0 none, 255 full)."""
        viewed = clip_near(self.camera.view(points))
        if len(viewed) >= 3:
            cv2.fillPoly(self.shade, [_fixed(self.camera.pixels(viewed))], int(strength), 8, SHIFT)

    def lamp(self, point, colour, power: float, kind: str) -> None:
        """Note a light source at a world point; the night style lights it if it is not hidden."""
        self.lamps.append((np.asarray(point, float), colour, power, kind))


def _fixed(pixels: np.ndarray) -> np.ndarray:
    return (pixels * (1 << SHIFT)).astype(np.int32)


def _colour(colour) -> tuple[float, float, float]:
    r, g, b = colour
    return float(min(max(r, 0), 255)), float(min(max(g, 0), 255)), float(min(max(b, 0), 255))


def _shrunk(texture: np.ndarray, width: float, height: float) -> np.ndarray:
    """A texture averaged down to about the size at which it is seen, against shimmer."""
    h, w = texture.shape[:2]
    new = max(2, min(w, int(width) + 1)), max(2, min(h, int(height) + 1))
    return texture if new[0] > w * 0.75 and new[1] > h * 0.75 else cv2.resize(texture, new, interpolation=cv2.INTER_AREA)

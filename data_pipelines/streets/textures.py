"""Noise, clouds, tree and flake pictures: made once a process from fixed seeds, read-only afterwards."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np


def fixed_rng(*key: int) -> np.random.Generator:
    """The generator behind a cached texture; it does not depend on the seed of a data set."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([0x57BEE7, *key])))


def frozen(array: np.ndarray) -> np.ndarray:
    """The array itself, closed against writing because it is shared."""
    array.setflags(write=False)
    return array


def fractal(rng: np.random.Generator, size: int, first: int, last: int, decay: float = 0.6) -> np.ndarray:
    """Tiling noise [size, size] float32 with zero mean and unit deviation: octaves of `first` to `last` cells, doubling."""
    total, weight, cells = np.zeros((size, size), np.float32), 1.0, first
    while cells <= last:
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        grid = np.pad(grid, 2, mode="wrap")
        step = size / cells
        axis = (np.arange(size, dtype=np.float32) + 0.5) / step + 1.5
        octave = cv2.remap(grid, *np.meshgrid(axis, axis), cv2.INTER_CUBIC) if cells < size else grid[2:-2, 2:-2]
        total += weight * octave
        weight *= decay
        cells *= 2
    return (total - total.mean()) / total.std()


@cache
def ground_noise() -> np.ndarray:
    """Tiling noise [512, 512] float32 for asphalt, stone and grass."""
    return frozen(fractal(fixed_rng(1), 512, 4, 512, 0.85))


@cache
def broad_noise() -> np.ndarray:
    """Tiling noise [256, 256] float32 of large patches: stains, dry and wet parts, tracks."""
    return frozen(fractal(fixed_rng(2), 256, 4, 64, 0.6))


@cache
def surface_noise() -> np.ndarray:
    """Noise [1024, 2048] float16 in screen space for everything that stands on the ground."""
    tile = fractal(fixed_rng(3), 1024, 16, 512, 0.75)
    return frozen(np.concatenate([tile, tile[::-1]], axis=1).astype(np.float16))


@cache
def grain() -> np.ndarray:
    """Sensor noise [640, 1024, 3] int8, deviation 24: mostly luminance, some colour, slightly correlated."""
    rng = fixed_rng(4)
    noise = rng.standard_normal((640, 1024, 1), np.float32) * 0.8 + rng.standard_normal((640, 1024, 3), np.float32) * 0.5
    noise = 0.8 * noise + 0.5 * cv2.GaussianBlur(noise, (0, 0), 1.0)
    return frozen(np.clip(noise / noise.std() * 24, -127, 127).astype(np.int8))


@cache
def clouds() -> np.ndarray:
    """Cloud cover [512, 1024] float32, zero mean and unit deviation."""
    tile = fractal(fixed_rng(5), 512, 3, 256, 0.55)
    return frozen(np.concatenate([tile, tile[:, ::-1]], axis=1))


@cache
def canopies(kind: str) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Crowns of trees and bushes as pairs (shade uint8 [h, w], mask uint8 [h, w])."""
    rng = fixed_rng(6, *kind.encode())
    return tuple(_canopy(rng, kind) for _ in range(14))


def _canopy(rng: np.random.Generator, kind: str) -> tuple[np.ndarray, np.ndarray]:
    size = 160
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    if kind == "conifer":
        field = 0.9 * (0.1 + (y + 1) / 2) - np.abs(x) * 1.15 + 0.12 * np.sin((y + 1) * rng.uniform(9, 16))
        field = np.minimum(field, (0.97 - y) * 4)
    elif kind == "palm":
        angle, radius = np.arctan2(y + 0.1, x), np.hypot(x, y + 0.1)
        field = (
            0.55 * (0.55 + 0.45 * np.cos(angle * rng.integers(7, 11) + radius * 2.5)) + 0.25 - radius * 0.75 - 0.15 * (y > 0.4)
        )
    else:
        field = np.full((size, size), -1.0, np.float32)
        for _ in range(rng.integers(7, 16)):
            angle, reach = rng.uniform(0, 2 * np.pi), 0.55 * np.sqrt(rng.random())
            cx, cy, r = reach * np.cos(angle), reach * np.sin(angle) * (0.9 if kind == "tree" else 0.5), rng.uniform(0.28, 0.5)
            cy, ry = (cy, r) if kind == "tree" else (cy + 0.3, r * 1.1)
            field = np.maximum(field, 1 - np.hypot((x - cx) / r, (y - cy) / ry))
    rough = fractal(rng, size, 5, 80, 0.85)
    sparse = rng.uniform(0.05, 0.22) if kind == "tree" else 0.1
    mask = ((field + sparse * rough - 0.08) > 0).astype(np.uint8) * 255
    if kind == "bush":
        mask[field > 0.25] = 255
    leaves = fractal(rng, size, 20, 160, 0.9)
    lit = 128 + 26 * leaves + 18 * rough - 46 * y - 12 * x + 30 * np.clip(field, 0, 0.6)
    shade = np.clip(lit - 24 * (fractal(rng, size, 8, 32) > 0.9), 10, 255).astype(np.uint8)
    return frozen(shade), frozen(mask)


@cache
def bare_crowns() -> tuple[np.ndarray, ...]:
    """Leafless crowns as masks uint8 [h, w]."""
    rng = fixed_rng(7)
    return tuple(frozen(_branches(rng)) for _ in range(8))


@cache
def bare_hulls() -> tuple[np.ndarray, ...]:
    """The same crowns with the gaps between their branches closed, as people label them."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (21, 21))
    room = [cv2.copyMakeBorder(mask, 21, 21, 21, 21, cv2.BORDER_CONSTANT) for mask in bare_crowns()]
    return tuple(frozen(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, kernel)[21:-21, 21:-21]) for mask in room)


def _branches(rng: np.random.Generator) -> np.ndarray:
    mask = np.zeros((192, 192), np.uint8)
    stack = [(96.0, 191.0, -np.pi / 2, 52.0, 6.0)]
    while stack:
        x, y, angle, length, width = stack.pop()
        x1, y1 = x + length * np.cos(angle), y + length * np.sin(angle)
        cv2.line(mask, (int(x), int(y)), (int(x1), int(y1)), 255, max(1, int(width)))
        if length > 9:
            for turn in rng.normal(0, 0.25, 3) + [-0.5, 0.05, 0.5]:
                stack.append((x1, y1, angle + turn, length * rng.uniform(0.58, 0.76), width * 0.66))
    return mask


@cache
def rain_streaks() -> np.ndarray:
    """Falling rain [768, 1536] uint8: bright slanted streaks on black."""
    rng = fixed_rng(8)
    sheet = np.zeros((768, 1536), np.uint8)
    for _ in range(2600):
        x, y, length = rng.uniform(0, 1536), rng.uniform(-20, 768), rng.gamma(3.0, 5.0)
        end = int(x + 0.12 * length), int(y + length)
        cv2.line(sheet, (int(x), int(y)), end, int(rng.uniform(40, 200)), 1, cv2.LINE_AA)
    return frozen(cv2.GaussianBlur(sheet, (0, 0), 0.6))


@cache
def snowflakes() -> np.ndarray:
    """Falling snow [768, 1536] uint8: soft dots of several sizes on black."""
    rng = fixed_rng(9)
    sheet = np.zeros((768, 1536), np.float32)
    for count, radius, blur, light in ((5200, 0, 0.5, 230), (1400, 1, 0.9, 240), (260, 2, 1.4, 235), (36, 4, 3.0, 170)):
        layer = np.zeros((768, 1536), np.uint8)
        for x, y in rng.uniform((0, 0), (1536, 768), (count, 2)):
            cv2.circle(layer, (int(x), int(y)), radius, int(rng.uniform(0.5, 1) * light), -1)
        sheet = np.maximum(sheet, cv2.GaussianBlur(layer, (0, 0), blur).astype(np.float32))
    return frozen(sheet.astype(np.uint8))


def crop(texture: np.ndarray, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A random part [h, w, ...] of a texture, which is repeated where it is too small."""
    if texture.shape[0] < size[0] or texture.shape[1] < size[1]:
        repeats = (-(-size[0] // texture.shape[0]), -(-size[1] // texture.shape[1])) + (1,) * (texture.ndim - 2)
        texture = np.tile(texture, repeats)
    y = int(rng.integers(0, texture.shape[0] - size[0] + 1))
    x = int(rng.integers(0, texture.shape[1] - size[1] + 1))
    return texture[y : y + size[0], x : x + size[1]]

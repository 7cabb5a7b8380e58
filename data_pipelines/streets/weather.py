"""Weather and time of day, computed per pixel from what every pixel is and how far away it lies."""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np

from data_pipelines.streets.camera import Camera
from data_pipelines.streets.canvas import SKY, Canvas
from data_pipelines.streets.textures import broad_noise, crop, rain_streaks, snowflakes, surface_noise

GROUND = 3  # object numbers 1..3


class View:
    """A resolved picture: `rgb` float32 [H, W, 3] (0..255), object `numbers`, `label`, and `nearness` = 1 / depth."""

    def __init__(self, rgb: np.ndarray, numbers: np.ndarray, label: np.ndarray, nearness: np.ndarray, camera: Camera):
        self.rgb, self.numbers, self.label, self.nearness, self.camera = rgb, numbers, label, nearness, camera

    @cached_property
    def ground(self) -> np.ndarray:
        return (self.numbers >= 1) & (self.numbers <= GROUND)

    @cached_property
    def first_ground_row(self) -> int:
        rows = np.flatnonzero(self.ground.any(axis=1))
        return int(rows[0]) if len(rows) else self.label.shape[0] - 1

    @cached_property
    def depth(self) -> np.ndarray:
        return 1.0 / np.maximum(self.nearness, 1e-3)

    def along(self, direction, top: int = 0, step: int = 1) -> np.ndarray:
        """World coordinate along a direction of what every pixel shows, relative to the camera."""
        h, w = self.label.shape
        a, b, c = self.camera.ray_component(direction)
        ray = (
            np.float32(a) * np.arange(0, w, step, dtype=np.float32)
            + (np.float32(b) * np.arange(top, h, step, dtype=np.float32) + np.float32(c))[:, None]
        )
        return ray * self.depth[top::step, ::step]

    def ground_position(self, top: int) -> tuple[np.ndarray, np.ndarray]:
        return self.along((1, 0, 0), top) + np.float32(self.camera.position[0]), self.along((0, 0, 1), top)


def apply(view: View, style: str, canvas: Canvas, look: np.random.Generator) -> np.ndarray:
    """The picture in its style, float32 [H, W, 3], 0..255."""
    return {"clear": _clear, "city": _clear, "night": _night, "fog": _fog, "rain": _rain, "snow": _snow}[style](
        view, canvas, look
    )


def _haze(view: View, density: float, colour) -> None:
    """Mix with the air's own light: transmission exp(-density * depth)."""
    through = np.exp(np.float32(-density) * np.minimum(view.depth, np.float32(420.0)))[..., None]
    colour = np.asarray(colour, np.float32)
    view.rgb -= colour
    view.rgb *= through
    view.rgb += colour


def _clear(view: View, canvas: Canvas, look: np.random.Generator) -> np.ndarray:
    light = canvas.light
    air = np.array([200, 205, 212]) if light.cloudy else np.array([190, 205, 225]) * light.sky_colour
    _haze(view, look.uniform(0.0003, 0.003), air * look.uniform(0.8, 1.1))
    return view.rgb


def _fog(view: View, canvas: Canvas, look: np.random.Generator) -> np.ndarray:
    grey = look.uniform(160, 235)
    view.rgb *= look.uniform(0.7, 0.95)
    _haze(view, np.exp(look.uniform(np.log(0.012), np.log(0.055))), grey + look.normal(0, 3, 3) + [-2, 0, 3])
    return view.rgb


def _reflection(view: View, blur: float) -> np.ndarray:
    """The picture mirrored at the horizon and drawn out downwards, as a wet road shows it: float32 [H - top, W, 3]."""
    h, w = view.label.shape
    top = view.first_ground_row
    small = cv2.resize(view.rgb, (w // 2, h // 2), interpolation=cv2.INTER_AREA)
    rows = np.clip(2 * top / 2 - np.arange(top / 2, h / 2), 0, h // 2 - 1).astype(int)
    mirrored = cv2.blur(np.ascontiguousarray(small[rows]), (3, max(3, int(h * blur) | 1)))
    return cv2.resize(mirrored, (w, h - top), interpolation=cv2.INTER_LINEAR)


def _wet(view: View, look: np.random.Generator, strength: float) -> None:
    top = view.first_ground_row
    ground = view.ground[top:]
    x, z = view.ground_position(top)
    puddles = cv2.remap(broad_noise(), x * 9, z * 5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    grazing = np.clip(1 - view.nearness[top:] * 5.0, 0.12, 1)
    amount = strength * np.clip(0.55 + 0.3 * puddles, 0.1, 1) * (0.35 + 0.65 * grazing)
    amount = np.where(ground, amount, 0)[..., None] * np.where(view.label[top:] == 9, 0.25, 1.0).astype(np.float32)[..., None]
    view.rgb[top:] = view.rgb[top:] * (1 - 0.35 * (amount > 0)) * (1 - amount) + _reflection(view, 0.1) * amount


def _rain(view: View, canvas: Canvas, look: np.random.Generator) -> np.ndarray:
    view.rgb *= np.array([0.93, 0.98, 1.03], np.float32) * look.uniform(0.55, 0.8)
    grey = look.uniform(105, 165)
    _haze(view, look.uniform(0.003, 0.014), grey + np.array([-3, 0, 4]))
    _wet(view, look, look.uniform(0.35, 0.75))
    _glow(view, canvas, 0.5)
    streaks = crop(rain_streaks(), look, view.label.shape).astype(np.float32) * look.uniform(0.1, 0.45)
    view.rgb += streaks[..., None]
    return _droplets(view.rgb, look)


def _droplets(rgb: np.ndarray, look: np.random.Generator) -> np.ndarray:
    """Drops on the windscreen: small discs that show a blurred, upside-down piece of the picture."""
    h, w = rgb.shape[:2]
    for _ in range(int(look.integers(0, 26))):
        radius = int(np.clip(look.gamma(2.0, 0.007) * w, 2, 0.05 * w))
        x, y = int(look.uniform(radius, w - radius)), int(look.uniform(radius, h - radius))
        if min(x, y, w - x, h - y) <= radius:
            continue
        piece = rgb[y - radius : y + radius, x - radius : x + radius]
        drop = cv2.GaussianBlur(np.ascontiguousarray(piece[::-1]), (0, 0), radius * 0.35) * 1.08
        grid = np.linspace(-1, 1, 2 * radius, dtype=np.float32)
        inside = np.clip((1 - np.hypot(grid, grid[:, None])) * 3, 0, 0.85)[..., None]
        piece += (drop - piece) * inside
    return rgb


def _snow(view: View, canvas: Canvas, look: np.random.Generator) -> np.ndarray:
    white = np.array([226, 231, 240], np.float32) * look.uniform(0.82, 1.03)
    view.rgb *= look.uniform(0.7, 0.95)
    top = view.first_ground_row
    x, z = view.ground_position(top)
    patches = cv2.remap(broad_noise(), x * 7, z * 2, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    cover = np.array([0, look.uniform(-0.6, 0.9), look.uniform(0.5, 1.6), look.uniform(1.0, 2.2)] + [0] * 252, np.float32)[
        view.numbers[top:]
    ]
    lane = np.cos((x - canvas.camera.position[0]) * (2 * np.pi / 1.55)) * 0.35
    amount = np.clip((cover + 0.55 * patches - np.where(view.numbers[top:] == 1, lane, 0)) * 1.1, 0, 0.94)
    shade = np.clip(view.rgb[top:].mean(2, keepdims=True) / 130, 0.8, 1.06)
    amount = np.where(view.ground[top:], amount, 0)[..., None]
    view.rgb[top:] += (white * shade - view.rgb[top:]) * amount
    _snow_on_things(view, white, look)
    _haze(view, look.uniform(0.003, 0.016), look.uniform(175, 225) + np.array([-2, 0, 4]))
    flakes = crop(snowflakes(), look, view.label.shape).astype(np.float32) * (look.uniform(0.3, 0.95) / 255)
    view.rgb += (245 - view.rgb) * flakes[..., None]
    return view.rgb


def _snow_on_things(view: View, white: np.ndarray, look: np.random.Generator) -> None:
    """White on upper edges, and patches on trees."""
    near = view.nearness
    amount = np.zeros_like(near)
    for rise in (2, 4):
        step = np.zeros_like(near)
        step[rise:] = near[rise:] - near[:-rise] * 1.06
        amount = np.maximum(amount, (step > 0.002) * (0.95 if rise == 2 else 0.6))
    amount[view.ground | (view.numbers == 0)] = 0
    plants = view.label == 8
    noise = crop(surface_noise(), look, near.shape).astype(np.float32)
    amount = np.where(plants, np.clip(0.35 + 0.5 * noise, 0, 0.9) * look.uniform(0.3, 1.0), amount)
    amount[(view.label == 11) | (view.label == 12)] *= 0.35
    view.rgb += (white - view.rgb) * amount[..., None]


def _night(view: View, canvas: Canvas, look: np.random.Generator) -> np.ndarray:
    h, w = view.label.shape
    shining = np.zeros(256, np.float32)
    shining[: len(canvas.shining)] = canvas.shining
    own = shining[view.numbers]
    ambient = np.array([0.75, 0.85, 1.05]) * np.exp(look.uniform(np.log(0.08), np.log(0.28)))
    light = cv2.resize(_lamp_light(view, canvas, look), (w, h), interpolation=cv2.INTER_LINEAR) + ambient.astype(np.float32)
    light[view.numbers == 0] = 1.0
    light = np.maximum(light, own[..., None] * np.float32(look.uniform(0.7, 1.0)))
    view.rgb *= np.minimum(light, 1.4)
    if look.random() < 0.35:
        _wet(view, look, look.uniform(0.3, 0.6))
    _glow(view, canvas, 1.0)
    return view.rgb


def _lamp_light(view: View, canvas: Canvas, look: np.random.Generator, step: int = 4) -> np.ndarray:
    """Light of street lamps and of the own headlights on what every fourth pixel shows: float32 [h, w, 3]."""
    x, y, z = (view.along(direction, 0, step) for direction in ((1, 0, 0), (0, 1, 0), (0, 0, 1)))
    position = canvas.camera.position
    total = np.zeros((*x.shape, 3), np.float32)
    power = look.uniform(0.6, 1.3)
    lamps = sorted((lamp for lamp in canvas.lamps if lamp[3] == "lamp"), key=lambda lamp: lamp[0][2])[:12]
    for point, colour, _, _ in lamps:
        dx, dy, dz = (np.float32(v) for v in point - position)
        share = power / (1.0 + ((x - dx) ** 2 + (z - dz) ** 2 + 0.35 * (y - dy) ** 2) / 38.0)
        total += (share**1.3)[..., None] * (np.asarray(colour, np.float32) / 255)
    beam = (
        look.uniform(0.5, 1.1)
        * np.exp(-z / look.uniform(14, 30))
        * np.exp(-((x / (2.2 + 0.16 * z)) ** 2))
        * np.clip(1.1 - (y + position[1]) * 0.3, 0.15, 1)
    )
    total += beam[..., None] * np.array([1.0, 0.97, 0.88], np.float32)
    return total


def _glow(view: View, canvas: Canvas, strength: float) -> None:
    """Halos and cores of the lights that are not hidden."""
    h, w = view.label.shape
    halo = np.zeros((h // 2, w // 2, 3), np.float32)
    for point, colour, power, _kind in canvas.lamps:
        viewed = canvas.camera.view(point)
        if viewed[2] < 1.5:
            continue
        px, py = canvas.camera.pixels(viewed)
        if not (0 <= px < w and 0 <= py < h) or view.nearness[int(py), int(px)] > 1.25 / viewed[2]:
            continue
        near = np.clip(24.0 / viewed[2], 0.25, 2.2)
        for radius, gain in ((0.004, 1.0), (0.016, 0.3), (0.05, 0.1)):
            _spot(halo, px / 2, py / 2, radius * near * w / 2 + 0.7, np.asarray(colour, np.float32) * (gain * power * strength))
    view.rgb += cv2.resize(halo, (w, h), interpolation=cv2.INTER_LINEAR)


def _spot(halo: np.ndarray, x: float, y: float, sigma: float, colour: np.ndarray) -> None:
    reach = int(3 * sigma) + 1
    x0, x1 = max(int(x) - reach, 0), min(int(x) + reach + 1, halo.shape[1])
    y0, y1 = max(int(y) - reach, 0), min(int(y) + reach + 1, halo.shape[0])
    if x1 > x0 and y1 > y0:
        across = np.exp(-0.5 * ((np.arange(x0, x1, dtype=np.float32) - x) / sigma) ** 2)
        down = np.exp(-0.5 * ((np.arange(y0, y1, dtype=np.float32) - y) / sigma) ** 2)
        halo[y0:y1, x0:x1] += (down[:, None] * across)[..., None] * colour


__all__ = ["SKY", "View", "apply"]

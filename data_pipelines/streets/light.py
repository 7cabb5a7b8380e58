"""Sun, sky and ambient light of one picture: what changes with the style while the scene stays."""

from __future__ import annotations

import numpy as np


class Light:
    """Light of one picture.

    `on(normal)` is the RGB gain of a surface; `cast` is the ground shadow of a point per metre of its height;
    `sun_power` is 0 under a closed sky and up to about 1 in full sun.
    """

    def __init__(self, style: str, rng: np.random.Generator):
        closed = {"clear": 0.35, "city": 0.25}.get(style, 1.0)
        cloudy, elevation, azimuth = rng.random() < closed, np.radians(rng.uniform(22, 68)), rng.uniform(-np.pi, np.pi)
        warm = rng.random() * (1.4 - elevation)
        self.cloudy, self.style = bool(cloudy), style
        self.sun_power = 0.0 if cloudy else float(rng.uniform(0.5, 1.0))
        flat = np.array([np.sin(azimuth), 0, np.cos(azimuth)])
        self.sun = flat * np.cos(elevation) + [0, np.sin(elevation), 0]
        self._sun = self.sun.tolist()
        self.cast = -flat / np.tan(elevation)
        self.azimuth, self.elevation = float(azimuth), float(elevation)
        self.sun_colour = np.array([1.0, 0.97 - 0.1 * warm, 0.92 - 0.28 * warm])
        self.sky_colour = np.array([0.96, 1.0, 1.04]) if cloudy else np.array([0.88, 0.98, 1.12])
        self.ambient = float(rng.uniform(0.66, 0.8)) if cloudy else float(rng.uniform(0.4, 0.56))

    def on(self, normal) -> np.ndarray:
        """RGB gain [3] of a surface with a unit normal [3]."""
        x, y, z = normal
        sun = 0.7 * self.sun_power * max(0.0, x * self._sun[0] + y * self._sun[1] + z * self._sun[2])
        sky = self.ambient * (1 + 0.28 * y - 0.1 * z * (1 - self.sun_power))
        return self.sky_colour * sky + self.sun_colour * sun

    def on_all(self, normals: np.ndarray) -> np.ndarray:
        """RGB gains [n, 3] of surfaces with unit normals [n, 3]."""
        sun = 0.7 * self.sun_power * np.maximum(normals @ self.sun, 0.0)
        sky = self.ambient * (1 + normals @ np.array([0, 0.28, -0.1 * (1 - self.sun_power)]))
        return sky[:, None] * self.sky_colour + sun[:, None] * self.sun_colour

    def sky_picture(self, clouds: np.ndarray, height: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Sky [h, w, 3] float32 from cloud noise [h, w] and rows above the horizon [h] as a share of the image (0 at it)."""
        zenith, horizon, cloud = self._sky_colours(rng)
        cover = rng.normal(1.4, 0.5) if self.cloudy else rng.normal(-0.4, 0.8)
        rise = np.clip(height, 0, 0.7)[:, None, None] / 0.7
        base = horizon + (zenith - horizon) * np.sqrt(rise)
        amount = np.clip((clouds + cover) * 0.8, 0, 1)[..., None] * np.clip(rise * 6, 0.25, 1)
        relief = 1 - 0.13 * np.clip(clouds[..., None] + 0.3 * cover, 0, 2) * (1.0 if self.cloudy else 0.7)
        return (base + (cloud * relief - base) * amount).astype(np.float32)

    def _sky_colours(self, rng: np.random.Generator):
        bright = rng.uniform(0.85, 1.1)
        if self.style == "night":
            glow = rng.random()
            zenith = np.array([10, 12, 22]) + 10 * rng.random(3)
            return zenith, zenith + np.array([34, 26, 22]) * glow, zenith + np.array([26, 21, 20]) * glow
        if self.cloudy:
            grey = rng.uniform(195, 262)
            tint = rng.normal(0, 2, 3) + [-3, 0, 4]
            return grey * 0.92 + tint, grey + 8 + tint, grey * rng.uniform(0.88, 1.08) + tint
        red = rng.uniform(60, 125)
        blue = np.array([red, red + rng.uniform(32, 58), rng.uniform(185, 230)])
        haze = blue * 0.4 + np.array([225, 228, 230]) * 0.6
        return blue * bright, np.minimum(haze * bright, 250), np.array([244, 243, 240]) * min(bright, 1.02)

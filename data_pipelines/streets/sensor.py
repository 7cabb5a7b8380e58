"""The camera's electronics: exposure, white balance, contrast, blur, vignette, noise."""

from __future__ import annotations

import cv2
import numpy as np

from data_pipelines.streets.textures import crop, grain


def expose(rgb: np.ndarray, style: str, look: np.random.Generator) -> np.ndarray:
    """Float picture [H, W, 3] (0..255) to uint8 as a camera would write it."""
    h, w = rgb.shape[:2]
    target = look.uniform(88, 144) + (26 if style == "snow" else 0)
    metered = 1.0 if style == "night" else np.clip((target / max(rgb[::8, ::8].mean(), 1.0)) ** 0.75, 0.6, 1.55)
    gain = metered * np.exp(look.normal(0, 0.1)) * np.exp(look.normal(0, 0.022, 3))
    gamma, saturation = np.exp(look.normal(0, 0.13)), np.clip(look.normal(0.9, 0.18), 0.4, 1.25)
    noise = look.gamma(2.0, 0.035) * (2.6 if style == "night" else 1.0)
    vignette = look.uniform(0, 0.28)
    blur = look.random(2)
    y, x = np.linspace(-1, 1, h, dtype=np.float32)[:, None], np.linspace(-1, 1, w, dtype=np.float32)
    fall = 1 - np.float32(vignette) * (0.35 * y * y + 0.65 * x * x)
    rgb = cv2.transform(rgb, np.eye(3) * saturation + (1 - saturation) * np.array([0.3, 0.59, 0.11]))
    rgb *= fall[..., None]
    if blur[0] < (0.7 if style == "night" else 0.45):
        rgb = cv2.GaussianBlur(rgb, (0, 0), 0.35 + 0.5 * blur[1])
    rgb += crop(grain(), look, (h, w)) * np.float32(noise)
    np.clip(rgb, 0, 255, out=rgb)
    curve = np.arange(256)[:, None] / 255.0 * gain
    curve = np.where(curve > 0.8, 0.8 + 0.2 * np.tanh((curve - 0.8) / 0.2), curve) ** gamma
    table = np.clip(curve * 255, 0, 255).astype(np.uint8)
    return cv2.LUT(rgb.astype(np.uint8), table.reshape(1, 256, 3))

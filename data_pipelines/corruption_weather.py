"""Weather of ImageNet-C (Hendrycks and Dietterich, ICLR 2019): snow, frost, fog and spatter, from their definitions.

Same conventions as `corruption_ops`. One texture differs: the original overlays crops of six photographs of frost, which cannot
be shipped; `frost_texture` grows ice procedurally instead, so numbers under frost do not compare with published ones.
"""

from __future__ import annotations

import cv2
import numpy as np

from data_pipelines.corruption_ops import blurred, motion_blurred, zoomed

Generator = np.random.Generator


def plasma(size: tuple[int, int], rng: Generator, decay: float) -> np.ndarray:
    """Plasma fractal in [0, 1] by diamond and square steps on a torus; `decay` > 1 divides the roughness from level to level."""
    side = 1 << max(int(np.ceil(np.log2(max(size)))), 1)
    field = np.zeros((side, side), np.float32)
    step, rough = side, np.float32(100)
    while step >= 2:
        half, amplitude = step // 2, float(rough * rough)
        noise = lambda count: rng.uniform(-amplitude, amplitude, (count, count)).astype(np.float32)  # noqa: B023
        corners, count = field[::step, ::step], side // step
        rows = corners + np.roll(corners, -1, 0)
        centres = (rows + np.roll(rows, -1, 1)) / 4 + noise(count)
        field[half::step, half::step] = centres
        upper = centres + np.roll(centres, 1, 0)
        field[::step, half::step] = (corners + np.roll(corners, -1, 1) + upper) / 4 + noise(count)
        sides = centres + np.roll(centres, 1, 1)
        field[half::step, ::step] = (rows + sides) / 4 + noise(count)
        step, rough = half, rough / np.float32(decay)
    field -= field.min()
    return (field / field.max())[: size[0], : size[1]]


def fog(image: np.ndarray, rng: Generator, density: float, decay: float) -> np.ndarray:
    """Plasma fractal added as haze, then rescaled to the image's maximum."""
    top = max(float(image.max()), 1e-3)
    haze = np.float32(density) * plasma(image.shape[:2], rng, decay)
    return (image + haze[..., None]) * np.float32(top / (top + density))


def snow(
    image: np.ndarray,
    rng: Generator,
    mean: float,
    scale: float,
    zoom: float,
    threshold: float,
    radius: int,
    sigma: float,
    keep: float,
) -> np.ndarray:
    """Enlarged specks of thresholded noise, blurred along their fall, on a whitened image."""
    flakes = zoomed(np.float32(mean) + np.float32(scale) * rng.standard_normal(image.shape[:2], np.float32), zoom)
    flakes[flakes < threshold] = 0
    flakes = motion_blurred(np.clip(flakes, 0, 1), radius, sigma, float(rng.uniform(-135, -45)))[..., None]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    white = np.float32(keep) * image + np.float32(1 - keep) * np.maximum(image, grey * np.float32(1.5) + np.float32(0.5))
    return white + flakes + flakes[::-1, ::-1]


def frost_texture(size: tuple[int, int], rng: Generator) -> np.ndarray:
    """Procedural window ice, float32 RGB [H,W,3] in [0, 1]: needles along bent directions, denser towards the borders."""
    height, width = size
    cloud = lambda cells: cv2.resize(
        rng.random((cells + 1, int(cells * width / height) + 2), np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    y, x = np.mgrid[:height, :width].astype(np.float32)
    reach = np.float32(height / 12)
    needles = np.zeros(size, np.float32)
    for cells, share in ((12, 0.4), (28, 0.35), (64, 0.25)):
        ridges = (1 - np.abs(2 * cloud(cells) - 1)) ** 4  # thin bright lines where the noise crosses one half
        bend_x, bend_y = (cloud(5) - 0.5) * reach, (cloud(5) - 0.5) * reach
        needles += np.float32(share) * cv2.remap(ridges, x + bend_x, y + bend_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    grain = cv2.GaussianBlur(rng.standard_normal(size, np.float32), (0, 0), 0.8)
    rim = np.maximum(np.abs(2 * x / width - 1), np.abs(2 * y / height - 1)) ** 2
    cover = np.clip(cloud(4) * 0.7 + 0.5 * rim, 0, 1)
    ice = np.clip(cover * (0.35 + 0.9 * needles) + 0.08 * grain * cover, 0, 1)
    return ice[..., None] * np.float32([0.88, 0.95, 1.0])


def frost(image: np.ndarray, rng: Generator, keep: float, weight: float) -> np.ndarray:
    """Darkened image with ice laid over it."""
    return np.float32(keep) * image + np.float32(weight) * frost_texture(image.shape[:2], rng)


def spatter(
    image: np.ndarray, rng: Generator, mean: float, scale: float, sigma: float, threshold: float, strength: float, mud: bool
) -> np.ndarray:
    """Drops of water (a relief that brightens) or of mud (patches that cover) on the lens."""
    layer = blurred(np.float32(mean) + np.float32(scale) * rng.standard_normal(image.shape[:2], np.float32), sigma)
    layer[layer < threshold] = 0
    if mud:
        cover = blurred((layer > threshold).astype(np.float32), strength)
        cover[cover < 0.8] = 0
        return image * (1 - cover[..., None]) + cover[..., None] * (np.float32([63, 42, 20]) / np.float32(255))
    drops = np.clip(layer * 255, 0, 255).astype(np.uint8)
    relief = layer * _relief(drops)
    relief *= np.float32(strength) / max(float(relief.max()), 1e-6)
    return image + relief[..., None] * (np.float32([175, 238, 238]) / np.float32(255))


def _relief(drops: np.ndarray) -> np.ndarray:
    """Light on drops: embossed distance from their edges, float32."""
    distance = cv2.distanceTransform(255 - cv2.Canny(drops, 50, 150), cv2.DIST_L2, 5)
    distance = cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8)
    emboss = np.float32([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    return cv2.blur(cv2.filter2D(cv2.equalizeHist(distance), cv2.CV_8U, emboss), (3, 3)).astype(np.float32)

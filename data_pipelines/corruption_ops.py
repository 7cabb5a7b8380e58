"""Image corruptions of ImageNet-C (Hendrycks and Dietterich, ICLR 2019): noise, blur and digital ones, from their definitions.

Every function takes float32 RGB [H,W,3] in [0, 1], one severity's constants and a random generator, and returns the same kind
of array, not yet clipped. The constants are the published ones; they are in pixels and do not grow with the image.
"""

from __future__ import annotations

import cv2
import numpy as np

Generator = np.random.Generator


def gaussian_noise(image: np.ndarray, rng: Generator, scale: float) -> np.ndarray:
    """White noise of this standard deviation."""
    return image + np.float32(scale) * rng.standard_normal(image.shape, np.float32)


def shot_noise(image: np.ndarray, rng: Generator, photons: float) -> np.ndarray:
    """Poisson noise of a sensor that counts this many photons for white."""
    return (rng.poisson(image * np.float32(photons)) / np.float32(photons)).astype(np.float32)


def impulse_noise(image: np.ndarray, rng: Generator, amount: float) -> np.ndarray:
    """Salt and pepper in equal parts on this share of the values."""
    chance = rng.random(image.shape, np.float32)
    return np.where(chance < amount / 2, np.float32(0), np.where(chance < amount, np.float32(1), image))


def speckle_noise(image: np.ndarray, rng: Generator, scale: float) -> np.ndarray:
    """Noise that grows with the value."""
    return image + np.float32(scale) * image * rng.standard_normal(image.shape, np.float32)


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur cut off at four standard deviations, edges replicated."""
    side = 2 * int(4 * sigma + 0.5) + 1
    return cv2.GaussianBlur(image, (side, side), sigma, borderType=cv2.BORDER_REPLICATE)


def gaussian_blur(image: np.ndarray, rng: Generator, sigma: float) -> np.ndarray:
    """Gaussian blur."""
    return blurred(image, sigma)


def defocus_blur(image: np.ndarray, rng: Generator, radius: int, soften: float) -> np.ndarray:
    """Convolution with a disk whose rim is softened."""
    reach = max(8, radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.float32)
    side = 3 if radius <= 8 else 5
    disk = cv2.GaussianBlur(disk / disk.sum(), (side, side), soften)
    return cv2.filter2D(image, -1, disk)


def glass_blur(image: np.ndarray, rng: Generator, sigma: float, reach: int, rounds: int) -> np.ndarray:
    """Pixels change places with near ones, between two blurs.

    The definition visits pixels one after the other. Here they are visited in classes of a lattice of 2 x reach pixels: the
    windows of one class do not overlap, so that all its swaps can be done at once, with the same distribution of each swap.
    """
    pixels = np.zeros((*image.shape[:2], 4), np.uint8)  # four bytes a pixel, so that a swap moves one number
    pixels[..., :3] = np.clip(blurred(image, sigma), 0, 1) * np.float32(255)
    height, width = image.shape[:2]
    packed, step = pixels.view(np.uint32).reshape(-1), 2 * reach
    for _ in range(rounds):
        for phase in rng.permutation(step * step):
            y = np.arange(reach + phase // step, height - reach, step)
            x = np.arange(reach + phase % step, width - reach, step)
            here = (y[:, None] * width + x).ravel()
            down, across = rng.integers(-reach, reach, (2, here.size), np.int32)
            there = here + down * width + across
            packed[here], packed[there] = packed[there], packed[here]
    return blurred(pixels[..., :3].astype(np.float32) / np.float32(255), sigma)


def motion_blurred(image: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """One-sided Gaussian streak of 2 x radius + 1 whole-pixel steps along `angle` (degrees), edges replicated."""
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2.0 * sigma**2))
    turn = np.deg2rad(angle)
    across = np.ceil(steps * np.cos(turn) - 0.5).astype(int)
    down = np.ceil(steps * np.sin(turn) - 0.5).astype(int)
    reach = int(max(np.abs(across).max(), np.abs(down).max()))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    np.add.at(kernel, (reach + down, reach + across), weights / weights.sum())
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE)


def motion_blur(image: np.ndarray, rng: Generator, radius: int, sigma: float) -> np.ndarray:
    """Motion blur of a direction within 45 degrees of the horizontal."""
    return motion_blurred(image, radius, sigma, float(rng.uniform(-45, 45)))


def zoomed(image: np.ndarray, factor: float) -> np.ndarray:
    """Enlarged about the centre, at the same size, bilinear."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 0, factor)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def zoom_blur(image: np.ndarray, rng: Generator, end: float, step: float) -> np.ndarray:
    """Mean of the image and of its zooms by 1, 1 + step, ... below `end`."""
    factors = np.arange(1, end, step)
    total = image.copy()
    for factor in factors:
        total += image if factor == 1 else zoomed(image, float(factor))
    return total / np.float32(len(factors) + 1)


def brightness(image: np.ndarray, rng: Generator, shift: float) -> np.ndarray:
    """Value of HSV raised."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 2] = np.clip(hsv[..., 2] + np.float32(shift), 0, 1)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def saturate(image: np.ndarray, rng: Generator, scale: float, shift: float) -> np.ndarray:
    """Saturation of HSV scaled and shifted."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 1] = np.clip(hsv[..., 1] * np.float32(scale) + np.float32(shift), 0, 1)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def contrast(image: np.ndarray, rng: Generator, scale: float) -> np.ndarray:
    """Drawn towards the mean colour of the image."""
    mean = image.mean((0, 1), keepdims=True, dtype=np.float64).astype(np.float32)
    return (image - mean) * np.float32(scale) + mean


def pixelate(image: np.ndarray, rng: Generator, scale: float) -> np.ndarray:
    """Shrunk by averaging and enlarged again without interpolation."""
    height, width = image.shape[:2]
    small = (max(int(width * scale), 1), max(int(height * scale), 1))
    return cv2.resize(
        cv2.resize(image, small, interpolation=cv2.INTER_AREA), (width, height), interpolation=cv2.INTER_NEAREST_EXACT
    )


def jpeg_compression(image: np.ndarray, rng: Generator, quality: int) -> np.ndarray:
    """Encoded as JPEG of this quality and decoded."""
    pixels = cv2.cvtColor((image * 255 + 0.5).astype(np.uint8), cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB).astype(np.float32) / np.float32(255)


def elastic_field(
    size: tuple[int, int], rng: Generator, strength: float, sigma: float, shear: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where every pixel of an elastic transform comes from: maps of x and y for cv2.remap.

    A random affine map that moves three corners of the central square by up to `shear` pixels, then a smooth displacement.
    """
    height, width = size
    centre, half = np.float32((width, height)) / 2, min(size) // 3
    corners = centre + np.float32([[half, half], [half, -half], [-half, -half]])
    moved = corners + rng.uniform(-shear, shear, corners.shape).astype(np.float32)
    inverse = cv2.invertAffineTransform(cv2.getAffineTransform(corners, moved)).astype(np.float32)
    shift = [_smooth_uniform(size, rng, sigma) * np.float32(strength) for _ in range(2)]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x + shift[0], y + shift[1]
    return inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2], inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]


def _smooth_uniform(size: tuple[int, int], rng: Generator, sigma: float) -> np.ndarray:
    """Uniform noise in [-1, 1] blurred with a Gaussian; a wide one is computed on averaged blocks, where nothing fine is left."""
    noise = rng.uniform(-1, 1, size).astype(np.float32)
    block = max(int(sigma / 8), 1)
    small = (max(size[1] // block, 1), max(size[0] // block, 1))
    coarse = cv2.resize(noise, small, interpolation=cv2.INTER_AREA) if block > 1 else noise
    side = 2 * int(3 * sigma / block + 0.5) + 1
    coarse = cv2.GaussianBlur(coarse, (side, side), sigma / block, borderType=cv2.BORDER_REFLECT)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_LINEAR) if block > 1 else coarse

"""PASTA (Chattopadhyay et al., ICCV 2023): multiplicative noise on the amplitude spectrum that grows with frequency."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rein_jax.augment.masks import filled, real_pixels
from rein_jax.errors import UserError


def frequency_radius(height: int, width: int, grid: str = "fft") -> np.ndarray:
    """Distance of each bin of an unshifted 2-D FFT to DC, divided by the largest, [H, W].

    "fft": the true integer frequencies. "released": the published code's indices along an even axis, 0 1 ... n/2-1 n/2-1 ... 1 0,
    in which a negative frequency -j stands one bin too near; along an odd axis 1 ... n//2 n//2 ... 1 0, with DC last.
    """

    def axis(n: int) -> np.ndarray:
        if grid == "released":
            near = np.arange(n // 2) + n % 2
            return np.concatenate([near, near[::-1], np.zeros(n % 2)])
        return np.abs(np.fft.fftfreq(n, 1 / n))

    radius = np.hypot(axis(height)[:, None], axis(width)[None, :])
    return (radius / max(radius.max(), 1e-12)).astype(np.float32)


class PASTA:
    """x' = clip(Re IFFT(FFT(x) n), 0, 1) with n ~ Normal(1, sigma), sigma = (alpha r)^k + beta, r in [0, 1] the distance to DC; independent
    for each image, channel and bin. Defaults are the published ones for segmentation. The transform acts on the training crop (the
    original acts on the whole image before cropping), with the mean of its real pixels in the padding, which stays 0; results are cut to
    uint8 as the original's.

    shared: one n for the three channels with sigma = beta everywhere (the original's other mode). grid: see `frequency_radius`.
    """

    def __init__(
        self, alpha: float = 3.0, k: float = 2.0, beta: float = 0.25, shared: bool = False, grid: str = "fft", probability: float = 1.0
    ):
        if min(alpha, beta) < 0 or k <= 0 or not 0 <= probability <= 1:
            raise UserError("config.augment: PASTA needs alpha >= 0, beta >= 0, k > 0 and a probability between 0 and 1.")
        if grid not in ("fft", "released"):
            raise UserError(f"config.augment.grid is {grid!r}; choose fft or released.")
        self.alpha, self.k, self.beta, self.shared, self.grid, self.probability = alpha, k, beta, shared, grid, probability

    def __call__(self, batch, key, loss_fn=None):
        noise_key, chance_key = jax.random.split(key)
        images = batch["image"]
        mask = real_pixels(batch)
        x = filled(images.astype(jnp.float32) / 255.0, mask)
        changed = jnp.clip(modulate(x, self.noise(noise_key, x.shape)), 0.0, 1.0) * mask
        changed = jnp.floor(changed * 255.0 + 1e-3)  # rounding errors of the transform must not cost a grey level
        chosen = jax.random.bernoulli(chance_key, self.probability, (x.shape[0], 1, 1, 1))
        return {**batch, "image": jnp.where(chosen, changed, images.astype(jnp.float32)).astype(jnp.uint8)}

    def sigma(self, height: int, width: int) -> np.ndarray:
        """Standard deviation of n at each bin [H, W]."""
        if self.shared:
            return np.full((height, width), self.beta, np.float32)
        return (self.alpha * frequency_radius(height, width, self.grid)) ** self.k + self.beta

    def noise(self, key, shape):
        """n for images [B, H, W, C]."""
        b, h, w, c = shape
        draw = jax.random.normal(key, (b, h, w, 1 if self.shared else c), jnp.float32)
        return 1.0 + draw * self.sigma(h, w)[None, :, :, None]


def modulate(x, noise):
    """Re IFFT(FFT(x) n) over the two spatial axes of x [B, H, W, C]. Its spectrum is that of x times (n(k) + n(-k)) / 2: real factors, so
    that the phase of every bin stays or turns by pi."""
    return jnp.fft.ifft2(jnp.fft.fft2(x, axes=(1, 2)) * noise, axes=(1, 2)).real

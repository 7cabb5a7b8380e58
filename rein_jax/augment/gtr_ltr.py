"""Global and local texture randomisation (Peng et al., TIP 2021).

GTR gives the whole image the look of another texture; LTR keeps the original inside random blobs. The original stylises offline with a
neural network and paintings. Here the look is transferred on the device, without extra weights: the statistics of the bands of a Gaussian
pyramid are set to those of a texture and some of the texture's own detail is added. Textures are procedural, or the images of a folder.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.paths import local_path
from rein_jax.augment.masks import channel_statistics, real_pixels
from rein_jax.errors import UserError

BLUR = (1.0, 4.0, 16.0)  # sigmas in pixels that part the bands
BLOB = (4.0, 16.0)  # range of the blobs' sigma, drawn log-uniformly (CowMix)
RADIUS = 64  # of the blur kernels: four times the largest sigma


class GTRLTR:
    """probability: share of images that get a new texture. keep: share of the pixels of such an image that stay original, in blobs, drawn
    uniformly from this range for each batch ((0, 0): the texture is everywhere, as with the released code's defaults). texture: a folder
    of images, or "" for procedural ones. strength: how far the statistics move to the texture's. detail: how much of the texture's own
    detail is added. count, side: how many images of the folder are held on the device, at which size."""

    def __init__(
        self,
        probability: float = 0.5,
        keep: tuple[float, float] = (0.0, 0.5),
        texture: str = "",
        strength: float = 1.0,
        detail: float = 0.3,
        count: int = 64,
        side: int = 256,
    ):
        if not 0 <= probability <= 1 or not 0 <= keep[0] <= keep[1] <= 1:
            raise UserError("config.augment: GTR-LTR needs probability in 0..1 and keep = (low, high) in 0..1.")
        self.probability, self.keep, self.strength, self.detail = probability, tuple(keep), strength, detail
        self.textures = read_textures(texture, count, side) if texture else None

    def __call__(self, batch, key, loss_fn=None):
        texture_key, blob_key, share_key, chance_key = jax.random.split(key, 4)
        raw = batch["image"].astype(jnp.float32)
        styled = self.stylise(raw / 255.0, real_pixels(batch), texture_key) * 255.0
        share = jax.random.uniform(share_key, (), minval=self.keep[0], maxval=self.keep[1])
        original = blobs(blob_key, raw.shape[1:3], share)[None, :, :, None]
        chosen = jax.random.bernoulli(chance_key, self.probability, (raw.shape[0], 1, 1, 1))
        out = jnp.where(chosen & ~original, jnp.round(jnp.clip(styled, 0, 255)), raw)
        return {**batch, "image": out.astype(jnp.uint8)}

    def stylise(self, x, mask, key):
        """x [B, H, W, 3] in [0, 1] with the band statistics (and some detail) of one texture an image; padding stays 0."""
        textures = self.draw(key, x.shape)
        every = jnp.ones_like(mask)
        out = 0.0
        for band, look in zip(bands(x, mask), bands(textures), strict=True):
            mean, std = channel_statistics(band, mask)
            new_mean, new_std = channel_statistics(look, every)
            target = (band - mean) / (std + 1e-4) * new_std + new_mean
            out = out + band + self.strength * (target - band)
        fine = textures - blur(textures, BLUR[-1])
        return (out + self.detail * fine) * mask

    def draw(self, key, shape):
        """One texture an image, [B, H, W, 3] in [0, 1]."""
        b, h, w, _ = shape
        pick, place = jax.random.split(key)
        if self.textures is None:
            return jax.vmap(lambda k: procedural(k, h, w))(jax.random.split(pick, b))
        chosen = jnp.asarray(self.textures)[jax.random.randint(pick, (b,), 0, len(self.textures))].astype(jnp.float32) / 255.0
        side = chosen.shape[1]
        starts = jax.random.randint(place, (b, 2), 0, side)
        rows = (starts[:, :1] + jnp.arange(h)) % (2 * side)
        columns = (starts[:, 1:] + jnp.arange(w)) % (2 * side)
        fold = lambda i: jnp.where(i < side, i, 2 * side - 1 - i)  # mirrored tiling has no seams
        return jax.vmap(lambda t, r, c: t[r][:, c])(chosen, fold(rows), fold(columns))


def procedural(key, height: int, width: int):
    """A coloured texture [H, W, 3] in [0, 1]: noise of several scales, stripes, and a random pair of colours for each."""
    keys = jax.random.split(key, 5)
    field = sum(
        amplitude * _standard(blur(jax.random.normal(k, (1, height, width, 1)), sigma))
        for k, sigma, amplitude in zip(jax.random.split(keys[0], 3), (0.7, 3.0, 12.0), jax.random.uniform(keys[1], (3,)), strict=True)
    )[0]
    angle, period = jax.random.uniform(keys[2], (), maxval=jnp.pi), 4.0 * 8.0 ** jax.random.uniform(keys[3])
    y, x = jnp.mgrid[:height, :width]
    stripes = jnp.sin(2 * jnp.pi * (x * jnp.cos(angle) + y * jnp.sin(angle)) / period + field[..., 0])
    colours = jax.random.uniform(keys[4], (3, 3))
    mix = jax.nn.sigmoid(jnp.stack([field[..., 0], stripes], -1) * 2.0)
    return mix[..., :1] * colours[0] + (1 - mix[..., :1]) * (mix[..., 1:] * colours[1] + (1 - mix[..., 1:]) * colours[2])


def blobs(key, size: tuple[int, int], share):
    """Random blobs as a bool mask [H, W], True on about `share` of the pixels (CowMix's thresholded smooth noise)."""
    noise_key, scale_key = jax.random.split(key)
    low, high = np.log(BLOB)
    sigma = jnp.exp(jax.random.uniform(scale_key, (), minval=low, maxval=high))
    field = _standard(blur(jax.random.normal(noise_key, (1, *size, 1)), sigma))[0, ..., 0]
    share = jnp.asarray(share, jnp.float32)
    threshold = jnp.sqrt(2.0) * jax.scipy.special.erfinv(jnp.clip(1.0 - 2.0 * share, -1.0, 1.0))
    return (field > threshold) & (share > 0)


def bands(x, mask=None):
    """The image parted into the bands of a Gaussian pyramid (at full size); they add up to x. Pixels outside the mask do not blur in."""
    levels = [x, *(_masked_blur(x, mask, sigma) for sigma in BLUR)]
    return [a - b for a, b in zip(levels, levels[1:], strict=False)] + [levels[-1]]


def _masked_blur(x, mask, sigma: float):
    """Mean of the real pixels around each pixel with a Gaussian's weights."""
    if mask is None:
        return blur(x, sigma)
    return blur(x * mask, sigma) / jnp.maximum(blur(mask, sigma), 1e-6)


def blur(x, sigma):
    """Separable Gaussian blur of [B, H, W, C] with mirrored borders; `sigma` may be traced."""
    static = isinstance(sigma, float)
    radius = min(int(4 * sigma + 0.5), RADIUS) if static else RADIUS
    offsets = jnp.arange(-radius, radius + 1, dtype=jnp.float32)
    kernel = jnp.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    for axis in (1, 2):
        reach = min(radius, x.shape[axis] - 1)
        weights = kernel[radius - reach : radius + reach + 1]
        x = _convolve(x, weights / weights.sum(), axis, reach)
    return x


def _convolve(x, weights, axis: int, reach: int):
    pad = [(0, 0)] * x.ndim
    pad[axis] = (reach, reach)
    flat = jnp.moveaxis(jnp.pad(x, pad, mode="reflect"), axis, -1)
    rows = flat.reshape(-1, 1, flat.shape[-1])
    out = jax.lax.conv_general_dilated(rows, weights[None, None, :], (1,), "VALID")
    return jnp.moveaxis(out.reshape(*flat.shape[:-1], -1), -1, axis)


def _standard(field):
    return (field - field.mean()) / (field.std() + 1e-12)


def read_textures(folder: str, count: int, side: int) -> np.ndarray:
    """Up to `count` images of a folder, each cut square and resized, uint8 [N, side, side, 3]."""
    from data_pipelines.files import read_file
    from data_pipelines.images import decode_image
    from data_pipelines.pictures import SUFFIXES

    files = sorted(p for p in local_path(folder).rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(f"config.augment.texture={folder!r} holds no image; name a folder of textures, or leave it empty.")
    step = max(1, len(files) // count)
    return np.stack([_square(decode_image(read_file(path), str(path)), side) for path in files[::step][:count]])


def _square(image: np.ndarray, side: int) -> np.ndarray:
    import cv2

    n = min(image.shape[:2])
    top, left = ((s - n) // 2 for s in image.shape[:2])
    return cv2.resize(image[top : top + n, left : left + n], (side, side), interpolation=cv2.INTER_AREA)

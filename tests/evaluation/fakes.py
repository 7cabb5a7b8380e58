"""A model and a source small enough to check by hand: scores depend on the pixels and on the place inside the window."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import nnx

from data_pipelines.errors import DataError
from data_pipelines.labels import ClassInfo

NAMES = ("road", "car", "sky", "tree")
PALETTE = ((128, 64, 128), (0, 0, 142), (70, 130, 180), (107, 142, 35))


class FakeModel(nnx.Module):
    """Scores = pixel values mixed by a matrix, plus a ramp over the window's rows and columns."""

    patch = 16

    def __init__(self, seed: int = 0, ramp: float = 0.3):
        random = np.random.default_rng(seed)
        self.mix = nnx.Param(jnp.asarray(random.normal(size=(3, len(NAMES))), jnp.float32))
        self.ramp = nnx.Param(jnp.asarray(ramp * random.normal(size=(2, len(NAMES))), jnp.float32))
        self.classes = ClassInfo(NAMES, PALETTE)

    def scores(self, images, size=None):
        x = images.astype(jnp.float32) / 255 - 0.5
        rows, columns = (jnp.linspace(-1, 1, n, dtype=jnp.float32) for n in images.shape[1:3])
        place = rows[:, None, None] * self.ramp[...][0] + columns[None, :, None] * self.ramp[...][1]
        return (x[..., None] * self.mix[...]).sum(-2) + place

    def probabilities(self, scores):
        return nnx.softmax(scores, axis=-1)


def numpy_scores(model: FakeModel, image: np.ndarray) -> np.ndarray:
    """The same in NumPy for one window [h, w, 3] -> [h, w, K]."""
    x = image.astype(np.float32) / np.float32(255) - np.float32(0.5)
    mix, ramp = np.asarray(model.mix[...]), np.asarray(model.ramp[...])
    rows, columns = (np.linspace(-1, 1, n, dtype=np.float32) for n in image.shape[:2])
    return (x[..., None] * mix).sum(-2) + rows[:, None, None] * ramp[0] + columns[None, :, None] * ramp[1]


class FakeSource:
    """Random images whose labels follow their brightness, with some void; `broken` elements cannot be read."""

    name, split = "fake", "val"

    def __init__(self, images: int = 6, size=(48, 80), seed: int = 0, domain: str = "town", broken=(), names=NAMES):
        self.images, self.size, self.seed, self.domain, self.broken = images, size, seed, domain, set(broken)
        self.classes = ClassInfo(names, PALETTE[: len(names)])
        self.reads = 0

    def __len__(self):
        return self.images

    def __getitem__(self, i):
        if i in self.broken:
            raise DataError(f"image {i} is truncated; replace it.")
        self.reads += 1
        random = np.random.default_rng([self.seed, i])
        height, width = self.size[i % len(self.size)] if isinstance(self.size, list) else self.size
        coarse = random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
        image = np.kron(coarse, np.ones((8, 8, 1)))[:height, :width].astype(np.uint8)
        label = (image.astype(int).sum(-1) * len(NAMES) // 766).astype(np.uint8)
        label[random.random((height, width)) < 0.05] = 255
        weather = ("fog", "night")[i % 2]
        return {"image": image, "label": label, "name": self.entry_name(i), "condition": weather}

    def entry_name(self, i):
        return f"{('fog', 'night')[i % 2]}/{i:03d}.png"

    def fingerprint(self):
        return f"fake-{self.images}-{self.size}-{self.seed}"

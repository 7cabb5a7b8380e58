"""A tiny model and data set with the contracts of the real ones: what the trainer's tests train."""

from __future__ import annotations

from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from rein_jax import trees
from rein_jax.components import TrainComponents

Classes = namedtuple("Classes", "names palette")
SIZE = 16


class Body(nnx.Module):
    """A frozen stack of linear blocks on a leading layer axis, walked by lax.scan."""

    def __init__(self, width: int, depth: int, rngs: nnx.Rngs):
        self.stem = nnx.Linear(3, width, rngs=rngs)
        self.blocks = nnx.Param(jax.random.normal(rngs.params(), (depth, width, width)) / width**0.5)

    def __call__(self, x):
        x = self.stem(x)
        return jax.lax.scan(lambda h, w: (h + jnp.tanh(h @ w), None), x, self.blocks[...])[0]


class Model(nnx.Module):
    """backbone/... frozen, head/... trained; dropout on the features when a key is given."""

    def __init__(self, width: int, depth: int, rngs: nnx.Rngs, drop: float = 0.1, classes: int = 4):
        self.drop = drop
        self.backbone = Body(width, depth, rngs)
        self.head = nnx.Linear(width, classes, rngs=rngs)

    def loss(self, batch, key):
        image = batch["image"]
        x = (image.astype(jnp.float32) / 127.5 - 1).astype(self.head.kernel[...].dtype)
        x = self.backbone(x)
        if self.drop:
            x = x * jax.random.bernoulli(key, 1 - self.drop, x.shape) / (1 - self.drop)
        logits = self.head(x).astype(jnp.float32)
        label = batch["label"].astype(jnp.int32)
        valid = label != 255
        each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(valid, label, 0))
        loss = jnp.sum(each * valid) / jnp.maximum(jnp.sum(valid), 1)
        return loss, {"pixel": loss, "scale": jnp.mean(jnp.abs(logits))}


def batches_of(size: int, bad=(), seed: int = 0):
    """batches(start, process, processes): element k of the run is a function of (seed, k); steps in `bad` hold NaN images."""
    def batches(start: int, process: int, processes: int):
        step = start
        while True:
            local = size // processes
            chosen = [step * size + process * local + i for i in range(local)]
            items = [_item(seed, index) for index in chosen]
            image = np.stack([item[0] for item in items])
            if step in bad:
                image = np.full(image.shape, np.nan, np.float32)
            elif bad:
                image = image.astype(np.float32)
            yield {"image": image, "label": np.stack([item[1] for item in items]),
                   "size": np.full((local, 2), SIZE, np.int32), "name": [f"img{index}.png" for index in chosen]}
            step += 1

    return batches


def _item(seed: int, index: int):
    rng = np.random.default_rng([seed, index])
    label = rng.integers(0, 4, (SIZE, SIZE), dtype=np.uint8)
    image = np.clip(rng.normal(60, 20, (SIZE, SIZE, 3)) + 40 * (label[..., None] == np.arange(3)), 0, 255).astype(np.uint8)
    label[0] = 255
    return image, label


def make_components(config, *, bad=(), width: int = 8, depth: int = 3, drop: float = 0.1) -> TrainComponents:
    """The TrainComponents of a stand-in run; reads config["train"], config["lr"], config["seed"]."""
    def model():
        return Model(width, depth, nnx.Rngs(config.get("seed", 0)), drop)

    module_def, trainable, frozen = trees.split(nnx.eval_shape(model), ("head/",))
    values = jax.jit(lambda: trees.flatten(model()))()
    trainable, frozen = {name: values[name] for name in trainable}, {name: values[name] for name in frozen}
    steps = config["train"]["steps"]
    schedule = optax.polynomial_schedule(config.get("lr", 0.05), 0.0, 0.9, steps)
    tx = optax.adamw(schedule)
    return TrainComponents(module_def=module_def, trainable=trainable, frozen=frozen, tx=tx, schedule=schedule, crop=(SIZE, SIZE),
                 classes=Classes(("a", "b", "c", "d"), ((0, 0, 0), (1, 1, 1), (2, 2, 2), (3, 3, 3))),
                 batches=batches_of(config["train"]["batch"], bad, config.get("seed", 0)), fingerprint="stand-in-1",
                 weights={"name": "stand-in", "source": "random"})

"""The Mask2Former head and its loss alone, on the feature maps of any encoder.

    python examples/head_and_loss.py --steps 30
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import rein_jax as rj


def encoder(images: jax.Array, channels: int = 24) -> list[jax.Array]:
    """Stands for any network: four maps [B, H / s, W / s, channels] at strides s of 4, 8, 16, 32, finest first."""
    b, h, w, _ = images.shape
    mix = jax.random.normal(jax.random.key(1), (3, channels))
    return [jax.image.resize(images.astype(jnp.float32) / 127.5 - 1, (b, h // s, w // s, 3), "linear") @ mix for s in (4, 8, 16, 32)]


def main(argv: list[str] | None = None) -> list[float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    args = parser.parse_args(argv)

    streets = rj.data.open("streets", length=2, size=(args.size, args.size))
    images, labels = (jnp.asarray(np.stack([streets[i][name] for i in range(2)])) for name in ("image", "label"))
    maps = encoder(images)
    head = rj.Mask2Former(in_channels=(24,) * 4, num_classes=19, num_queries=20, channels=32, groups=8, encoder_layers=1, decoder_layers=1,
                          encoder_ffn=64, decoder_ffn=64, rngs=nnx.Rngs(0))  # fmt: skip
    criterion = rj.MaskLoss(19, points=256)
    optimizer = nnx.Optimizer(head, optax.adamw(3e-3), wrt=nnx.Param)

    @nnx.jit
    def step(head: rj.Mask2Former, optimizer: nnx.Optimizer, key: jax.Array):
        (loss, terms), grads = nnx.value_and_grad(lambda head: criterion(head(maps), labels, key=key), has_aux=True)(head)
        optimizer.update(head, grads)
        return loss, terms

    losses = []
    for number in range(args.steps):
        loss, terms = step(head, optimizer, jax.random.key(number))
        losses.append(float(loss))
        print(f"step {number}: loss {losses[-1]:.3f}, masks of the last layer {float(terms['loss_mask']):.3f}")
    scores = nnx.jit(lambda head: head.scores(head(maps), (args.size, args.size)))(head)  # float32 [B, H, W, K]
    print(f"pixels that are right: {float((scores.argmax(-1) == labels).mean()):.0%}")
    return losses


if __name__ == "__main__":
    main()

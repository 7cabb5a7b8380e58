"""A training loop of one's own, from stock Flax and optax: only adapter and head have gradients and moments.

    python examples/own_loop.py --steps 20
    python examples/own_loop.py --backbone dinov2_vits14 --crop 256       # published weights, fetched once
"""

from __future__ import annotations

import argparse

import jax
import optax
from flax import nnx

import rein_jax as rj

TRAINABLE = rj.trainable("adapter", "head")


@nnx.jit
def step(model: rj.Segmenter, optimizer: nnx.Optimizer, batch: dict[str, jax.Array], key: jax.Array):
    """One update; returns the loss and its terms."""
    (loss, terms), grads = nnx.value_and_grad(rj.loss, argnums=nnx.DiffState(0, TRAINABLE), has_aux=True)(model, batch, key)
    optimizer.update(model, grads)
    return loss, terms


def make_model(name: str | None, size: int) -> rj.Segmenter:
    """Rein and a narrow Mask2Former on a published backbone, or on a tiny one with random weights."""
    tiny = rj.backbones.ViTConfig(embed_dim=48, depth=4, num_heads=3)
    backbone = rj.DINOv2.from_pretrained(name, image_size=size) if name else rj.DINOv2(tiny, image_size=size)
    adapter = rj.Rein(backbone, num_tokens=20, rank=4, query_dims=32, query_init="spread")
    head = rj.Mask2Former(backbone, num_classes=19, adapter=adapter, channels=32, groups=8, encoder_layers=1, decoder_layers=1,
                          encoder_ffn=64, decoder_ffn=64)  # fmt: skip
    return rj.Segmenter(backbone, head, adapter=adapter, loss=rj.MaskLoss(19, points=256), classes=rj.CITYSCAPES)


def main(argv: list[str] | None = None) -> list[float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", help="a published DINOv2, such as dinov2_vits14")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=64)
    args = parser.parse_args(argv)

    model = make_model(args.backbone, args.crop)
    optimizer = nnx.Optimizer(model, optax.adamw(1e-3, weight_decay=0.05), wrt=TRAINABLE)
    streets, losses = rj.data.open("streets", size=(args.crop, 2 * args.crop)), []
    with rj.data.loader([streets], crop=args.crop, batch_size=args.batch, resize="none") as batches:
        for number, batch in zip(range(args.steps), batches, strict=False):
            loss, _ = step(model, optimizer, batch, jax.random.fold_in(jax.random.key(0), number))
            losses.append(float(loss))
            print(f"step {number}: loss {losses[-1]:.3f}")
    night = rj.data.open("streets", style="night", split="val", length=2, size=(args.crop, 2 * args.crop))
    print(rj.evaluate(model, night, crop=args.crop, stride=args.crop, progress=False).table())
    return losses


if __name__ == "__main__":
    main()

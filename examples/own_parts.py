"""Own parts, each in a file of my_parts/ and registered there by one call: trained by rj.train and by a stock loop."""

from __future__ import annotations

import argparse

import jax
import optax
from flax import nnx
from my_parts import adapter, augmentation, backbone, dataset, head

import rein_jax as rj

TRAINABLE = rj.trainable("adapter", "head")


def by_name(steps: int, workdir: str) -> rj.Run:
    """rj.train finds the parts by their names."""
    config = rj.config(
        backbone={"name": "convs", "weights": "random"}, adapter={"name": "ssf"}, head={"name": "two_layers"},
        augment={"name": "brightness", "most": 20.0}, train={"steps": steps, "batch": 2}, optim={"lr": 1e-2},
        data={"train": [{"name": "stripes", "width": 8}], "crop": (64, 64), "resize": "none"},
        eval={"domains": [{"name": "stripes", "split": "val"}], "crop": 64, "stride": 64},
    )  # fmt: skip
    return rj.train(config, workdir)


def by_hand(steps: int) -> list[float]:
    """The same parts in a loop of stock Flax and optax."""
    rngs, augment = nnx.Rngs(0), augmentation.Brightness(20.0)
    convs = backbone.Convs(rngs=rngs)
    model = rj.Segmenter(convs, head.TwoLayers(convs, 2, rngs=rngs), adapter=adapter.SSF(convs), classes=dataset.Stripes.classes)
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=TRAINABLE)

    @nnx.jit
    def step(model: rj.Segmenter, optimizer: nnx.Optimizer, batch: dict[str, jax.Array], key: jax.Array) -> jax.Array:
        batch = augment(batch, key)
        (loss, _), grads = nnx.value_and_grad(rj.loss, argnums=nnx.DiffState(0, TRAINABLE), has_aux=True)(model, batch, key)
        optimizer.update(model, grads)
        return loss

    with rj.data.loader([rj.data.open(dataset.Stripes())], crop=64, batch_size=2, resize="none") as batches:
        return [float(step(model, optimizer, batch, jax.random.key(i))) for i, batch in zip(range(steps), batches, strict=False)]


def main(argv: list[str] | None = None) -> tuple[rj.Run, list[float]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--workdir", default="runs/own_parts")
    args = parser.parse_args(argv)
    run, losses = by_name(args.steps, args.workdir), by_hand(args.steps)
    print(run.model.predict(dataset.Stripes()[0]["image"]))
    print("losses by hand:", *(f"{loss:.3f}" for loss in losses))
    return run, losses


if __name__ == "__main__":
    main()

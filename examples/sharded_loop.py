"""The loop of own_loop.py on all devices: the batch is split among them; parameters are copied to each, or split too.

    python examples/sharded_loop.py
    XLA_FLAGS=--xla_force_host_platform_device_count=8 python examples/sharded_loop.py --split
"""

from __future__ import annotations

import argparse

import jax
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import rein_jax as rj

TRAINABLE = rj.trainable("adapter", "head")


@nnx.jit
def step(model: rj.Segmenter, optimizer: nnx.Optimizer, batch: dict[str, jax.Array], key: jax.Array) -> jax.Array:
    """One update; the compiler adds what has to travel between devices."""
    (loss, _), grads = nnx.value_and_grad(rj.loss, argnums=nnx.DiffState(0, TRAINABLE), has_aux=True)(model, batch, key)
    optimizer.update(model, grads)
    return loss


def place(array: jax.Array, mesh: Mesh, split: bool) -> jax.Array:
    """A parameter on every device; with `split` large ones along the last axis that the devices divide."""
    axes = [axis for axis, length in enumerate(array.shape) if split and array.size >= 1024 and length % mesh.size == 0]
    spec = PartitionSpec(*[None] * axes[-1], "data") if axes else PartitionSpec()
    return jax.device_put(array, NamedSharding(mesh, spec))


def main(argv: list[str] | None = None) -> list[float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8, help="images of all devices together")
    parser.add_argument("--split", action="store_true", help="split large parameters and their moments among the devices")
    args = parser.parse_args(argv)

    mesh = Mesh(np.array(jax.devices()), ("data",))
    backbone = rj.DINOv2(rj.backbones.ViTConfig(embed_dim=48, depth=4, num_heads=3), image_size=64)
    adapter = rj.Rein(backbone, num_tokens=20, rank=4, link=False)
    model = rj.Segmenter(backbone, rj.LinearHead(backbone, num_classes=19), adapter=adapter)
    nnx.update(model, jax.tree.map(lambda array: place(array, mesh, args.split), nnx.state(model)))
    optimizer = nnx.Optimizer(model, optax.adamw(1e-3), wrt=TRAINABLE)  # moments lie where their parameters do
    losses = []
    with rj.data.loader([rj.data.open("streets", size=(64, 128))], crop=64, batch_size=args.batch, resize="none") as batches:
        for number, batch in zip(range(args.steps), batches, strict=False):
            rows = jax.device_put({name: batch[name] for name in ("image", "label")}, NamedSharding(mesh, PartitionSpec("data")))
            losses.append(float(step(model, optimizer, rows, jax.random.fold_in(jax.random.key(0), number))))
            print(f"step {number} on {mesh.size} devices: loss {losses[-1]:.4f}")
    return losses


if __name__ == "__main__":
    main()

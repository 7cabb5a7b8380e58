"""Rein alone, in somebody else's network: a plain vision transformer that tells night from day; only the adapter trains."""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import rein_jax as rj


class Block(nnx.Module):
    def __init__(self, dim: int, heads: int, *, rngs: nnx.Rngs):
        self.norm1, self.norm2 = nnx.LayerNorm(dim, rngs=rngs), nnx.LayerNorm(dim, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(heads, dim, decode=False, rngs=rngs)
        self.mlp = nnx.Sequential(nnx.Linear(dim, 4 * dim, rngs=rngs), nnx.gelu, nnx.Linear(4 * dim, dim, rngs=rngs))

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Classifier(nnx.Module):
    def __init__(self, dim: int = 64, depth: int = 4, *, rngs: nnx.Rngs):
        self.patches = nnx.Conv(3, dim, (16, 16), strides=16, padding="VALID", rngs=rngs)
        self.blocks = nnx.List([Block(dim, 4, rngs=rngs) for _ in range(depth)])
        self.rein = rj.adapters.Rein(embed_dim=dim, depth=depth, num_tokens=16, rank=4, link=False, rngs=rngs)
        self.answer = nnx.Linear(dim, 2, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = self.patches(images.astype(jnp.float32) / 127.5 - 1).reshape(images.shape[0], -1, self.answer.in_features)
        for i, block in enumerate(self.blocks):
            x = self.rein(block(x), layer=i)
        return self.answer(x.mean(axis=1))


def main(argv: list[str] | None = None) -> list[float]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    images = jnp.stack([rj.data.open("streets", style=style, size=(64, 64))[i]["image"] for style in ("clear", "night") for i in range(4)])
    labels, net, wrt = jnp.eye(2).repeat(4, axis=0), Classifier(rngs=nnx.Rngs(0)), rj.trainable("rein")
    optimizer = nnx.Optimizer(net, optax.adam(1e-2), wrt=wrt)

    @nnx.jit
    def step(net: Classifier, optimizer: nnx.Optimizer) -> jax.Array:
        loss = lambda net: optax.softmax_cross_entropy(net(images), labels).mean()
        value, grads = nnx.value_and_grad(loss, argnums=nnx.DiffState(0, wrt))(net)
        optimizer.update(net, grads)
        return value

    losses = [float(step(net, optimizer)) for _ in range(parser.parse_args(argv).steps)]
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}")
    return losses


if __name__ == "__main__":
    main()

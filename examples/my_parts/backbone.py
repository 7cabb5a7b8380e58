"""A backbone of one's own: three things are declared, and four feature maps returned."""

from __future__ import annotations

from collections.abc import Sequence

import jax
from flax import nnx

import rein_jax as rj


@rj.register("backbone", "convs")
class Convs(rj.Backbone):
    """Patches of 4 pixels, then blocks that mix channels; adapters act behind every block."""

    def __init__(self, width: int = 16, depth: int = 2, *, rngs: nnx.Rngs):
        self.patches = nnx.Conv(3, width, (4, 4), strides=4, rngs=rngs)
        self.blocks = nnx.List([nnx.Linear(width, width, rngs=rngs) for _ in range(depth)])
        self.patch = 32  # images are padded to multiples of it
        self.out_channels = (width,) * 4  # of the four maps; `strides` are 4, 8, 16, 32 unless said otherwise
        self.block_specs = (rj.BlockSpec(depth, width),)  # what adapters may serve: one run of equal blocks

    def __call__(self, images: jax.Array, adapters: Sequence[rj.Adapter] = (), key: jax.Array | None = None) -> tuple[jax.Array, ...]:
        x = self.patches(images)  # [B, H / 4, W / 4, width]
        for i, block in enumerate(self.blocks):
            x = x + nnx.gelu(block(x))
            if adapters:  # they see tokens [B, N, width]
                x = adapters[0](x.reshape(x.shape[0], -1, x.shape[-1]), layer=i).reshape(x.shape)
        return tuple(nnx.avg_pool(x, (s, s), strides=(s, s)) for s in (1, 2, 4, 8))

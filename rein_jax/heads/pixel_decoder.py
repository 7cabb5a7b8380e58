"""The pixel decoder of Mask2Former: a deformable encoder over three levels and one step of a feature pyramid.

The same function as mmdet's MSDeformAttnPixelDecoder (4 inputs, 3 encoder levels).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from rein_jax.layers import resize
from rein_jax.layers.conv import Conv3x3
from rein_jax.layers.deformable import DeformableAttention
from rein_jax.layers.init import torch_uniform
from rein_jax.layers.norm import group_norm, layer_norm
from rein_jax.layers.positions import sine_positions
from rein_jax.layers.stack import REMAT, stacked

LEVELS = 3
# torch's xavier_normal_ draws from a normal; JAX's initializer of that name cuts it at two standard deviations.
XAVIER_NORMAL = nnx.initializers.variance_scaling(1.0, "fan_avg", "normal")
_FAN_IN_UNIFORM = nnx.initializers.variance_scaling(1.0, "fan_in", "uniform")  # detectron2's c2_xavier_fill


class FeedForward(nnx.Module):
    """Linear, ReLU, linear. [..., C] -> [..., C]."""

    def __init__(self, embed_dim: int, hidden: int, *, rngs: nnx.Rngs):
        self.fc1 = nnx.Linear(embed_dim, hidden, kernel_init=XAVIER_NORMAL, bias_init=torch_uniform(embed_dim), rngs=rngs)
        self.fc2 = nnx.Linear(hidden, embed_dim, kernel_init=XAVIER_NORMAL, bias_init=torch_uniform(hidden), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc2(jax.nn.relu(self.fc1(x)))


class EncoderLayer(nnx.Module):
    """Deformable self-attention and feed-forward, each with residual and norm after it."""

    def __init__(self, embed_dim: int, heads: int, points: int, hidden: int, *, low_memory: bool, rngs: nnx.Rngs):
        self.attn = DeformableAttention(embed_dim, heads, LEVELS, points, low_memory=low_memory, rngs=rngs)
        self.norm1, self.norm2 = (layer_norm(embed_dim, 1e-5, rngs=rngs) for _ in range(2))
        self.ffn = FeedForward(embed_dim, hidden, rngs=rngs)

    def __call__(self, x: jax.Array, positions: jax.Array, sizes: Sequence[tuple[int, int]]) -> jax.Array:
        """x [B, N, C], positions [B, N, C] -> [B, N, C]."""
        x = self.norm1(x + self.attn(x + positions, x, sizes))
        return self.norm2(x + self.ffn(x))


class Project(nnx.Module):
    """Convolution (1x1 as a linear map, or 3x3) and group norm."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, bias: bool, groups: int, init, rngs: nnx.Rngs):
        if kernel == 1:
            self.conv = nnx.Linear(inputs, outputs, use_bias=bias, kernel_init=init, rngs=rngs)
        else:
            self.conv = Conv3x3(inputs, outputs, use_bias=bias, kernel_init=init, rngs=rngs)
        self.norm = group_norm(outputs, groups, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x))


class PixelDecoder(nnx.Module):
    """Four maps, finest first, to (mask features at the finest size, three memories from low to high resolution)."""

    def __init__(self, in_channels: Sequence[int], *, rngs: nnx.Rngs, channels: int, layers: int, heads: int, points: int,
                 hidden: int, groups: int, low_memory: bool, remat: str):
        project = partial(Project, outputs=channels, groups=groups, rngs=rngs)
        self.inputs = nnx.List([
            project(width, kernel=1, bias=True, init=nnx.initializers.xavier_uniform()) for width in reversed(in_channels[1:])
        ])
        self.level_encoding = nnx.Param(jax.random.normal(rngs.params(), (LEVELS, channels)))
        layer = partial(EncoderLayer, channels, heads, points, hidden, low_memory=low_memory)
        self.layers = stacked(lambda r: layer(rngs=r), layers, rngs)
        self.lateral = project(in_channels[0], kernel=1, bias=False, init=_FAN_IN_UNIFORM)
        self.output = project(channels, kernel=3, bias=False, init=_FAN_IN_UNIFORM)
        self.mask_feature = nnx.Linear(channels, channels, kernel_init=_FAN_IN_UNIFORM, rngs=rngs)
        self.remat = remat

    @jax.named_scope("pixel_decoder")
    def __call__(self, maps: Sequence[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
        """maps: four [B, h_i, w_i, C_i] -> (mask features [B, h_0, w_0, C], memories [B, h_i, w_i, C] for i = 3, 2, 1)."""
        levels = [project(x) for project, x in zip(self.inputs, reversed(maps[1:]), strict=True)]
        memories = self.encode(levels)
        y = self.lateral(maps[0])
        y = y + resize.bilinear(memories[-1], y.shape[1:3])
        return self.mask_feature(jax.nn.relu(self.output(y))), memories

    @jax.named_scope("encoder")
    def encode(self, levels: list[jax.Array]) -> list[jax.Array]:
        """The deformable encoder over the flattened levels."""
        sizes = [x.shape[1:3] for x in levels]
        batch, channels = levels[0].shape[0], levels[0].shape[-1]
        dtype = levels[0].dtype
        # Each image has its own copy: else the gradient of the positions, as large as the maps, travels between devices.
        encoding = jnp.broadcast_to(self.level_encoding[...].astype(dtype)[:, None, None], (LEVELS, batch, 1, channels))
        positions = jnp.concatenate([
            sine_positions(*size, channels, dtype).reshape(-1, channels) + encoding[i] for i, size in enumerate(sizes)
        ], axis=1)
        x = jnp.concatenate([level.reshape(batch, -1, channels) for level in levels], axis=1)
        graph, states = nnx.split(self.layers)

        def step(x, state):
            return nnx.merge(graph, state)(x, positions, sizes).astype(dtype), None

        x, _ = jax.lax.scan(REMAT[self.remat](step), x, states)
        ends = [sum(h * w for h, w in sizes[: i + 1]) for i in range(len(sizes) - 1)]
        return [part.reshape(batch, *size, channels) for part, size in zip(jnp.split(x, ends, axis=1), sizes, strict=True)]

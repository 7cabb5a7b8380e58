"""SAM's image encoder (Kirillov et al. 2023): windowed and global blocks with decomposed relative positions. Weights: Apache-2.0.

There is no class token; SAM's convolutional neck is not part of the module: the blocks' outputs are the features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby

import jax
import jax.numpy as jnp
from flax import nnx

from rein_jax.adapters.base import Adapter, AnyAdapter, BlockSpec, stages_of
from rein_jax.backbones.base import Backbone
from rein_jax.backbones.names import Rules, linear, norm, patch_embed
from rein_jax.backbones.pyramid import pyramid, to_map
from rein_jax.backbones.run_blocks import run_blocks
from rein_jax.backbones.variants import get_variant
from rein_jax.backbones.vit import ViTConfig, check_out_indices, grid_of
from rein_jax.layers import window
from rein_jax.layers.attention import Attention, split_heads
from rein_jax.layers.hooks import NO_HOOKS
from rein_jax.layers.mlp import Mlp
from rein_jax.layers.norm import layer_norm
from rein_jax.layers.patch import PatchEmbed, square
from rein_jax.layers.rel_pos import attend_with_positions
from rein_jax.layers.resize import bicubic
from rein_jax.layers.stack import stacked
from rein_jax.weight_rules import Rule


@dataclass(frozen=True)
class SAMConfig(ViTConfig):
    """full: numbers of the blocks with global attention; window: side of the others' windows; pretrained: side in patches of the
    published weights, which fixes the length of the global blocks' tables."""

    full: tuple[int, ...] = ()
    window: int = 14
    pretrained: int = 64

    def runs(self) -> list[tuple[bool, int, int]]:
        """(global?, first block, number of blocks) of the runs of equal blocks."""
        out = []
        for is_global, group in groupby(range(self.depth), key=lambda i: i in self.full):
            numbers = list(group)
            out.append((is_global, numbers[0], len(numbers)))
        return out


class PositionAttention(Attention):
    """Self-attention with tables of relative rows and columns [2m - 1, channels of a head]."""

    def __init__(self, embed_dim: int, num_heads: int, reach: int, *, rngs: nnx.Rngs):
        super().__init__(embed_dim, num_heads, rngs=rngs)
        normal = nnx.initializers.normal(0.02)
        self.rel_pos_h = nnx.Param(normal(rngs.params(), (2 * reach - 1, embed_dim // num_heads), jnp.float32))
        self.rel_pos_w = nnx.Param(normal(rngs.params(), (2 * reach - 1, embed_dim // num_heads), jnp.float32))

    def __call__(self, x, hooks=None, grid=None):
        """x [B, h*w, d] on a grid (h, w); None: a square."""
        hooks = hooks or NO_HOOKS
        qkv = hooks.on_linear("qkv", x, self.qkv(x))
        q, k, v = (split_heads(part, self.num_heads) for part in jnp.split(qkv, 3, axis=-1))
        y = attend_with_positions(q, k, v, self.rel_pos_h[...], self.rel_pos_w[...], grid or square(x)).reshape(x.shape)
        return hooks.on_linear("proj", y, self.proj(y))


class SamBlock(nnx.Module):
    """A pre-norm block whose attention sees windows (size > 0) or everything (size 0). Tokens [B, h*w, d]; context = (h, w)."""

    def __init__(self, config: SAMConfig, size: int, *, rngs: nnx.Rngs):
        d, self.size = config.embed_dim, size
        self.norm1 = layer_norm(d, 1e-6, rngs=rngs)
        self.attn = PositionAttention(d, config.num_heads, size or config.pretrained, rngs=rngs)
        self.norm2 = layer_norm(d, 1e-6, rngs=rngs)
        self.mlp = Mlp(d, config.hidden_dim, rngs=rngs)

    def __call__(self, x, hooks=None, context=None):
        hooks = hooks or NO_HOOKS
        h, w = context or square(x)
        y = self.norm1(x)
        if self.size:
            windows = window.cut(y.reshape(-1, h, w, y.shape[-1]), self.size)
            windows = self.attn(windows, hooks, (self.size, self.size))
            y = window.join(windows, self.size, (h, w)).reshape(x.shape)
        else:
            y = self.attn(y, hooks, (h, w))
        x = x + y
        return x + hooks.on_mlp(x, self.mlp(self.norm2(x), hooks))


class SAM(Backbone):
    """SAM's encoder giving four maps at strides 4, 8, 16 and 32.

    Blocks of one kind that follow each other are one stack; adapters see a single stage of `depth` blocks.

    Args:
        variant: "b", "l", "h", with or without "sam_" in front; or a SAMConfig.
        rngs: of random initial values (default: nnx.Rngs(0)).
        image_size: side (or height, width) in pixels for which the absolute positions are stored.
        patch: patch size in pixels.
        out_indices: the four blocks whose outputs become maps (default: the global ones).
        remat, unroll: see `ViT`.
    """

    family = "sam"
    VARIANTS = {
        "b": SAMConfig(768, 12, 12, full=(2, 5, 8, 11)),
        "l": SAMConfig(1024, 24, 16, full=(5, 11, 17, 23)),
        "h": SAMConfig(1280, 32, 16, full=(7, 15, 23, 31)),
    }
    position_kind = "bicubic"

    def __init__(self, variant: str | SAMConfig, *, rngs: nnx.Rngs | None = None, image_size=512, patch: int = 16, out_indices=None,
                 remat="none", unroll=False):
        config, rngs = get_variant(self.VARIANTS, variant, self.family), rngs or nnx.Rngs(0)
        self.config, self.patch, self.remat, self.unroll = config, patch, remat, unroll
        self.out_indices = check_out_indices(config.full if out_indices is None and len(config.full) == 4 else out_indices, config.depth)
        self.grid = grid_of(image_size, patch)
        d = config.embed_dim
        self.out_channels = (d,) * 4
        self.pos_embed = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), (1, *self.grid, d), jnp.float32))
        self.patch_embed = PatchEmbed(d, patch, rngs=rngs)
        self.runs = nnx.List([
            stacked(lambda r, size=0 if is_global else config.window: SamBlock(config, size, rngs=r), count, rngs)
            for is_global, _, count in config.runs()
        ])  # fmt: skip
        linears = Attention.linears(d) + Mlp.linears(d, config.hidden_dim)
        self.block_specs = (BlockSpec(config.depth, d, 0, linears, patch, hook_points=("mlp",)),)  # windows have no room for prompts

    def embed(self, images):
        """Images [B, H, W, 3] -> tokens [B, h*w, d] and the grid (h, w)."""
        x = self.patch_embed(images)
        b, h, w, d = x.shape
        positions = self.pos_embed[...]
        if (h, w) != self.grid:
            positions = bicubic(positions, (h, w))
        return (x + positions.astype(x.dtype)).reshape(b, h * w, d), (h, w)

    def tokens(self, images, adapters: tuple[Adapter, ...] = (), key=None):
        """The outputs at `out_indices` as tokens [B, h*w, d], and the grid."""
        adapter = adapters[0] if adapters else None
        with jax.named_scope("embed"):
            x, grid = self.embed(images)
        if adapter is not None:
            x = adapter.pre_forward(x, 0, None if key is None else jax.random.fold_in(key, self.config.depth))
        found: dict[int, jax.Array] = {}
        for (_, first, count), blocks in zip(self.config.runs(), self.runs, strict=True):
            here = tuple(t for t in self.out_indices if first <= t < first + count)
            with jax.named_scope(f"blocks{first}"):
                x, outputs = run_blocks(
                    blocks, x, adapter=adapter, offset=first, out_indices=here, key=None if key is None else jax.random.fold_in(key, first),
                    remat=self.remat, unroll=self.unroll, context=grid,
                )  # fmt: skip
            found.update(zip(here, outputs, strict=True))
        return [found[t] if adapter is None else adapter.post_forward(found[t], 0) for t in self.out_indices], grid

    def __call__(self, images, adapters: AnyAdapter = None, key=None) -> tuple:
        """Four maps at strides 4, 8, 16, 32. images [B, H, W, 3], normalised, sides multiples of the patch."""
        outputs, grid = self.tokens(images, stages_of(adapters), key)
        return pyramid([to_map(output, grid, 0) for output in outputs])


def _table(config: SAMConfig, style: str) -> Rules:
    """One line per array of every block: which stack a block belongs to depends on the variant."""
    hf = style == "hf"
    stem, layer = ("patch_embed.projection", "layers.") if hf else ("patch_embed.proj", "blocks.")
    norms = (("layer_norm1", "norm1"), ("layer_norm2", "norm2")) if hf else (("norm1", "norm1"), ("norm2", "norm2"))
    mlp = (("mlp.fc1", "mlp/fc1"), ("mlp.fc2", "mlp/fc2")) if style == "timm" else (("mlp.lin1", "mlp/fc1"), ("mlp.lin2", "mlp/fc2"))
    out = [Rule("pos_embed", "backbone/pos_embed", resize="pos_embed"), *patch_embed(stem)]
    for run, (_, first, count) in enumerate(config.runs()):
        target = f"backbone/runs/{run}/"
        for place in range(count):
            source = f"{layer}{first + place}."
            block = [rule for theirs, ours in norms for rule in norm(source + theirs, target + ours)]
            for theirs, ours in (("attn.qkv", "attn/qkv"), ("attn.proj", "attn/proj"), *mlp):
                block += linear(source + theirs, target + ours)
            block += [Rule(f"{source}attn.{name}", f"{target}attn/{name}") for name in ("rel_pos_h", "rel_pos_w")]
            out += [replace(rule, index=place) for rule in block]
    return tuple(out)


SKIP = (r"neck\..*",)


def formats(variant: str | ViTConfig) -> dict[str, tuple[Rules, tuple[str, ...]]]:
    """Tables of names by format, below `image_encoder.` (official) or `vision_encoder.` (HF)."""
    config = get_variant(SAM.VARIANTS, variant, SAM.family)
    return {style: (_table(config, style), SKIP) for style in ("official", "hf", "timm")}

"""What plain vision transformers share: embed, stacked blocks with adapters, outputs of chosen blocks, pyramid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from rein_jax.adapters.base import Adapter, AnyAdapter, BlockSpec, stages_of
from rein_jax.backbones.base import Backbone
from rein_jax.backbones.pyramid import pyramid, to_map
from rein_jax.backbones.run_blocks import run_blocks
from rein_jax.backbones.variants import get_variant
from rein_jax.errors import UserError
from rein_jax.kernels.gelu import gelu
from rein_jax.layers.attention import Attention
from rein_jax.layers.hooks import NO_HOOKS
from rein_jax.layers.mlp import FusedSwiGLU, Mlp
from rein_jax.layers.norm import layer_norm
from rein_jax.layers.patch import PatchEmbed
from rein_jax.layers.resize import offset_factors, resize
from rein_jax.layers.stack import layer, stacked


@dataclass(frozen=True)
class ViTConfig:
    """What differs between the variants of one family.

    Args:
        embed_dim: channels of the tokens. depth: number of blocks. num_heads: heads of the attention.
        registers: tokens after the class token.
        gated: SwiGLU instead of an MLP.
        hidden: channels inside the MLP (None: 4 x embed_dim, of a SwiGLU two thirds of that, rounded up to a multiple of 8).
        patch: patch size of the published weights.
    """

    embed_dim: int
    depth: int
    num_heads: int
    registers: int = 0
    gated: bool = False
    hidden: int | None = None
    patch: int = 16

    @property
    def hidden_dim(self) -> int:
        """Channels inside the MLP."""
        return self.hidden or ((int(4 * self.embed_dim * 2 / 3) + 7) // 8 * 8 if self.gated else 4 * self.embed_dim)


DEFAULT_OUT_INDICES = {12: (2, 5, 8, 11), 24: (7, 11, 15, 23), 32: (7, 15, 23, 31), 40: (9, 19, 29, 39)}


def check_out_indices(out_indices, depth: int) -> tuple[int, ...]:
    """Four increasing block numbers; the family's default for the depth if none are given."""
    if out_indices is None:
        out_indices = DEFAULT_OUT_INDICES.get(depth, tuple(max(0, round(depth * q) - 1) for q in (0.25, 0.5, 0.75, 1.0)))
    out_indices = tuple(int(t) for t in out_indices)
    if len(out_indices) != 4 or list(out_indices) != sorted(out_indices) or out_indices[0] < 0 or out_indices[-1] >= depth:
        raise UserError(f"config.backbone.out_indices is {out_indices}; give four increasing block numbers below {depth}.")
    return out_indices


class LayerScale(nnx.Module):
    """A learned factor per channel."""

    def __init__(self, embed_dim: int, init: float = 1e-5):
        self.gamma = nnx.Param(jnp.full(embed_dim, init, jnp.float32))

    def __call__(self, x):
        return x * self.gamma[...]


class Context(NamedTuple):
    """What every block of one run shares: the rotation of q and k, or None; what each token may look at, bool [B, N, N], or None."""

    rotate: Any = None
    allowed: Any = None


class Block(nnx.Module):
    """A pre-norm transformer block with optional LayerScale: x += ls1 attn(LN x); x += ls2 mlp(LN x)."""

    def __init__(self, config: ViTConfig, *, eps: float, layer_scale: bool, activation=gelu, key_bias: bool = True, rngs: nnx.Rngs):
        d = config.embed_dim
        self.norm1 = layer_norm(d, eps, rngs=rngs)
        self.attn = Attention(d, config.num_heads, key_bias=key_bias, rngs=rngs)
        self.norm2 = layer_norm(d, eps, rngs=rngs)
        hidden = config.hidden_dim
        self.mlp = FusedSwiGLU(d, hidden, rngs=rngs) if config.gated else Mlp(d, hidden, activation=activation, rngs=rngs)
        self.ls1 = LayerScale(d) if layer_scale else None
        self.ls2 = LayerScale(d) if layer_scale else None

    def __call__(self, x, hooks=None, context: Context | None = None):
        hooks = hooks or NO_HOOKS
        y = self.attn(self.norm1(x), hooks, *(context or ()))
        x = x + (self.ls1(y) if self.ls1 else y)
        y = self.mlp(self.norm2(x), hooks)
        return x + hooks.on_mlp(x, self.ls2(y) if self.ls2 else y)

    @staticmethod
    def linears(config: ViTConfig) -> tuple:
        mlp = FusedSwiGLU if config.gated else Mlp
        return Attention.linears(config.embed_dim) + mlp.linears(config.embed_dim, config.hidden_dim)


class ViT(Backbone):
    """A plain ViT giving four maps. Families subclass it: they set class attributes and override `embed` or `make_block`.

    Args:
        variant: a name of the family's VARIANTS, or a ViTConfig of your own sizes.
        rngs: of random initial values (default: nnx.Rngs(0)).
        image_size: side (or height, width) in pixels that the position embedding is stored for; other sizes are resized on the fly.
        patch: patch size in pixels.
        out_indices: the four blocks whose outputs become maps (default: four evenly spaced ones).
        remat: what the backward pass recomputes: "none", "dots" or "full". unroll: block after block instead of lax.scan.
        final_norm: keep the norm behind the last block, which only the head EoMT reads.
    """

    family = "vit"
    VARIANTS: dict[str, ViTConfig] = {}
    eps = 1e-6
    layer_scale = False
    key_bias = True  # the attention's k has a bias
    absolute = True  # patches have a learned position embedding
    patch_bias = True
    activation = staticmethod(gelu)
    interpolate_offset = 0.1  # of the official DINOv2 code when it resizes positions on the fly
    position_kind = "bicubic"  # how positions are resized on the fly: bicubic, bilinear, or antialiased (bicubic)

    def __init__(self, variant: str | ViTConfig, *, rngs: nnx.Rngs | None = None, image_size=512, patch: int = 16, out_indices=None,
                 remat="none", unroll=False, final_norm: bool = False):
        config, rngs = get_variant(self.VARIANTS, variant, self.family), rngs or nnx.Rngs(0)
        self.config, self.patch, self.remat, self.unroll = config, patch, remat, unroll
        self.out_indices = check_out_indices(out_indices, config.depth)
        self.grid = grid_of(image_size, patch)
        self.num_prefix_tokens = 1 + config.registers
        self.out_channels = (config.embed_dim,) * 4
        d = config.embed_dim
        normal = nnx.initializers.normal(0.02)
        self.cls_token = nnx.Param(normal(rngs.params(), (1, 1, d), jnp.float32))
        if self.absolute:
            self.pos_embed = nnx.Param(normal(rngs.params(), (1, 1 + self.grid[0] * self.grid[1], d), jnp.float32))
        if config.registers:
            self.register_tokens = nnx.Param(normal(rngs.params(), (1, config.registers, d), jnp.float32))
        self.patch_embed = PatchEmbed(d, patch, bias=self.patch_bias, rngs=rngs)
        self.blocks = stacked(lambda r: self.make_block(config, r), config.depth, rngs)
        self.norm = layer_norm(d, self.eps, rngs=rngs) if final_norm else None
        self.block_specs = (BlockSpec(config.depth, d, self.num_prefix_tokens, self.linears(config), patch, key_bias=self.key_bias),)

    def make_block(self, config: ViTConfig, rngs: nnx.Rngs) -> nnx.Module:
        """One block of this family, with random values."""
        return Block(
            config, eps=self.eps, layer_scale=self.layer_scale, activation=self.activation, key_bias=self.key_bias, rngs=rngs,
        )  # fmt: skip

    def block(self, number: int) -> nnx.Module:
        """Block `number` as a module of its own: `block(x)`, tokens [B, N, d] -> [B, N, d]."""
        return layer(self.blocks, number)

    def linears(self, config: ViTConfig) -> tuple:
        """{name: (in, out)} of the linear maps of `make_block`, as adapters see them."""
        return Block.linears(config)

    def positions(self, grid: tuple[int, int]):
        """The position embedding [1, 1 + h*w, d] for a grid of patches."""
        stored = self.pos_embed[...]
        if grid == self.grid:
            return stored
        d = stored.shape[-1]
        table = stored[:, 1:].reshape(1, *self.grid, d).astype(jnp.float32)
        if self.position_kind == "antialiased":  # PyTorch's antialiased kernel is JAX's (a = -0.5, renormalised)
            resized = jax.image.resize(table, (1, *grid, d), "cubic", antialias=True, precision=jax.lax.Precision.HIGHEST)
        else:
            resized = resize(table, grid, self.position_kind, factors=offset_factors(self.grid, grid, self.interpolate_offset))
        return jnp.concatenate([stored[:, :1], resized.reshape(1, -1, d).astype(stored.dtype)], axis=1)

    def embed(self, images):
        """Images [B, H, W, 3] -> tokens [B, num_prefix_tokens + h*w, d] and the grid (h, w)."""
        x = self.patch_embed(images)
        b, h, w, d = x.shape
        cls = jnp.broadcast_to(self.cls_token[...].astype(x.dtype), (b, 1, d))
        x = jnp.concatenate([cls, x.reshape(b, h * w, d)], axis=1)
        if self.absolute:
            x = x + self.positions((h, w)).astype(x.dtype)
        if self.config.registers:
            registers = jnp.broadcast_to(self.register_tokens[...].astype(x.dtype), (b, self.config.registers, d))
            x = jnp.concatenate([x[:, :1], registers, x[:, 1:]], axis=1)
        return x, (h, w)

    def context(self, grid: tuple[int, int], dtype) -> Context:
        """What the blocks share for inputs of this grid."""
        return Context()

    def begin(self, images, adapters: tuple[Adapter, ...] = (), key=None):
        """What the first block sees, tokens [B, N, d], and the grid of patches, which are its last."""
        with jax.named_scope("embed"):
            x, grid = self.embed(images)
        if adapters:
            x = adapters[0].pre_forward(x, self.num_prefix_tokens, None if key is None else jax.random.fold_in(key, self.config.depth))
        return x, grid

    def run(self, x, grid: tuple[int, int], adapters: tuple[Adapter, ...] = (), key=None, *, between=None, out_indices=(),
            inserted: int = 0, allowed=None):
        """(the last output, those at `out_indices`) of the blocks `between` (default: all). inserted: tokens in front that are none of the
        backbone's; allowed: bool [B, N, N], what each token may look at."""
        with jax.named_scope("blocks"):
            return run_blocks(
                self.blocks, x, adapter=adapters[0] if adapters else None, num_prefix_tokens=self.num_prefix_tokens + inserted,
                out_indices=out_indices, key=key, remat=self.remat, unroll=self.unroll, between=between,
                context=self.context(grid, x.dtype)._replace(allowed=allowed),
            )  # fmt: skip

    def tokens(self, images, adapters: tuple[Adapter, ...] = (), key=None):
        """The outputs at `out_indices` as tokens [B, num_prefix_tokens + h*w, d], and the grid."""
        x, grid = self.begin(images, adapters, key)
        _, outputs = self.run(x, grid, adapters, key, out_indices=self.out_indices)
        return [adapters[0].post_forward(output, self.num_prefix_tokens) if adapters else output for output in outputs], grid

    def __call__(self, images, adapters: AnyAdapter = None, key=None) -> tuple:
        """Four maps at strides 4, 8, 16, 32. images [B, H, W, 3], normalised, sides multiples of the patch."""
        outputs, grid = self.tokens(images, stages_of(adapters), key)
        return self.to_maps([to_map(output, grid, self.num_prefix_tokens) for output in outputs])

    def to_maps(self, maps) -> tuple:
        """Maps at stride 16 -> the four maps."""
        return pyramid(maps)


def grid_of(image_size, patch: int) -> tuple[int, int]:
    """Patches per side of an image size given as a side or as (height, width)."""
    h, w = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if h % patch or w % patch:
        raise UserError(f"config.backbone.image_size is {image_size}; its sides must be multiples of the patch size {patch}.")
    return h // patch, w // patch

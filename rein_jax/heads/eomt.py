"""EoMT (Kerssies et al., CVPR 2025): the backbone's own last blocks are the decoder. Queries join its tokens; no pixel decoder.

The same function as the official model (for semantic segmentation) and as transformers' EomtForUniversalSegmentation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from rein_jax.adapters.base import Adapter, AnyAdapter, stages_of
from rein_jax.errors import UserError
from rein_jax.heads.base import Head, shapes_of
from rein_jax.heads.semantic import semantic_scores, shares
from rein_jax.kernels.gelu import gelu
from rein_jax.layers import resize
from rein_jax.layers.conv import Depthwise3x3, Doubled
from rein_jax.layers.init import torch_linear, torch_uniform
from rein_jax.layers.norm import layer_norm

MASKING = ("annealed", "always", "never")


class ScaleBlock(nnx.Module):
    """Twice the resolution: a transposed 2x2 convolution, GELU, a depthwise 3x3 convolution, LayerNorm. [B, h, w, d] -> [B, 2h, 2w, d]."""

    def __init__(self, embed_dim: int, *, rngs: nnx.Rngs):
        wide = torch_uniform(4 * embed_dim)
        self.conv1 = Doubled(embed_dim, kernel_init=wide, bias_init=wide, rngs=rngs)
        self.conv2 = Depthwise3x3(embed_dim, kernel_init=torch_uniform(9), rngs=rngs)
        self.norm = layer_norm(embed_dim, 1e-6, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv2(gelu(self.conv1(x))))


class EoMT(Head):
    """Queries that the last `blocks` blocks of a plain ViT see beside its tokens; each gets class scores and a mask.

    In training every one of these blocks is preceded by a prediction, whose masks close to each query the patches outside its own
    (masking="annealed": for a share of the queries that falls to none as training goes on, block after block, so that the finished model
    needs no masks; "always"; or "never", which also leaves one prediction). The backbone needs its last norm
    (`final_norm=True`), and its last blocks have to learn: tune it whole, or with an adapter.

    Args:
        backbone: the plain ViT that it works in; or in_channels: of its maps, whose last number is the width of its blocks.
        num_classes: K.
        adapter: of the backbone, checked where given.
        rngs: of the initial values (default: nnx.Rngs(0)).
        num_queries: Q.
        blocks: of the backbone that the queries pass.
        upscale: doublings of the patches' resolution before masks are read.
        masking: "annealed", "always" or "never".

    Raises:
        UserError: a backbone or an adapter that it cannot work in.

    Example:
        backbone = rj.DINOv2.from_pretrained("dinov2_vitl14_reg", final_norm=True)
        head = rj.EoMT(backbone, num_classes=19)
    """

    loss_name = "mask"

    def __init__(self, backbone: nnx.Module | Sequence[int] | None = None, num_classes: int | None = None, *,
                 in_channels: Sequence[int] | None = None, adapter: AnyAdapter = None, rngs: nnx.Rngs | None = None, num_queries: int = 100,
                 blocks: int = 4, upscale: int = 2, masking: str = "annealed"):
        in_channels, num_classes = shapes_of(backbone, in_channels, num_classes, "EoMT")
        rngs = rngs or nnx.Rngs(0)
        if masking not in MASKING:
            raise UserError(f"config.head.masking is {masking!r}; choose one of {', '.join(MASKING)}.")
        embed_dim = in_channels[-1]
        self.num_classes, self.blocks, self.masking = num_classes, blocks, masking
        self.query = nnx.Param(jax.random.normal(rngs.params(), (num_queries, embed_dim)))
        self.cls_embed = torch_linear(embed_dim, num_classes + 1, rngs=rngs)
        self.mask_embed = nnx.List([torch_linear(embed_dim, embed_dim, rngs=rngs) for _ in range(3)])
        self.upscale = nnx.List([ScaleBlock(embed_dim, rngs=rngs) for _ in range(upscale)])
        if isinstance(backbone, nnx.Module):
            self.check(backbone, stages_of(adapter))

    def forward_with_backbone(self, backbone: nnx.Module, adapters: tuple[Adapter, ...], images: jax.Array, key=None,
               progress=None) -> dict[str, jax.Array]:
        """Normalised images [B, H, W, 3], whole patches -> float32 logits {"cls": [P, B, Q, K + 1], "mask": [P, B, Q, h, w]}.

        P is 1, or blocks + 1 where masks close patches. key: None for a finished model; in training it draws which queries keep their
        masks at `progress`, the share of the training that is over (None: its start).
        """
        depth, count = backbone.config.depth, self.query.shape[0]
        masked = self.masking == "always" or (self.masking == "annealed" and key is not None)
        chances = self.chances(0.0 if progress is None else progress)
        x, grid = backbone.begin(images, adapters, key)
        x, _ = backbone.run(x, grid, adapters, key, between=(0, depth - self.blocks))
        query = jnp.broadcast_to(self.query[...].astype(x.dtype), (x.shape[0], *self.query.shape))
        x, found = jnp.concatenate([query, x], axis=1), []
        for i in range(self.blocks):
            allowed = None
            if masked:
                found.append(self._predict(backbone.norm(x), grid))
                draw = None if key is None or self.masking == "always" else jax.random.fold_in(key, depth + 1 + i)
                allowed = self._allowed(x.shape[1], found[-1][1], grid, chances[i], draw)
            block = depth - self.blocks + i
            x, _ = backbone.run(x, grid, adapters, key, between=(block, block + 1), inserted=count, allowed=allowed)
        found.append(self._predict(backbone.norm(x), grid))
        classes, masks = zip(*found, strict=True)
        return {"cls": jnp.stack(classes), "mask": jnp.stack(masks)}

    def chances(self, progress) -> jax.Array:
        """Chance of a query to keep its mask, float32 [blocks], at a share of the training: 1 until (i + 1) / (n + 2) of it for block i of
        n, 0 from (i + 2) / (n + 2) on, in between falling with the power 0.9."""
        start = (jnp.arange(self.blocks) + 1) / (self.blocks + 2)
        passed = (jnp.asarray(progress, jnp.float32) - start) * (self.blocks + 2)
        return jnp.clip(1 - passed, 0.0, 1.0) ** 0.9

    def _predict(self, x: jax.Array, grid: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
        """Normed tokens -> class logits [B, Q, K + 1] and mask logits [B, Q, h, w], float32."""
        query = x[:, :self.query.shape[0]]
        patches = x[:, x.shape[1] - math.prod(grid):].reshape(x.shape[0], *grid, x.shape[-1])
        for block in self.upscale:
            patches = block(patches)
        first, second, third = self.mask_embed
        embedding = third(gelu(second(gelu(first(query)))))
        masks = jnp.einsum("bqc,bhwc->bqhw", embedding, patches, preferred_element_type=jnp.float32)
        return self.cls_embed(query).astype(jnp.float32), masks

    def _allowed(self, tokens: int, masks: jax.Array, grid: tuple[int, int], chance, key) -> jax.Array:
        """bool [B, N, N]: everything, but for queries that keep their masks the patches where these are not above one half."""
        batch, count = masks.shape[:2]
        near = resize.bilinear(jax.lax.stop_gradient(masks), grid, axes=(2, 3)).reshape(batch, count, -1) > 0
        if key is not None:
            near |= (jax.random.uniform(key, (batch, count)) > chance)[..., None]
        everything = jnp.ones((batch, tokens, tokens), bool)
        return everything.at[:, :count, tokens - near.shape[-1]:].set(near)

    def check(self, backbone: nnx.Module, adapters: Sequence[Adapter]) -> None:
        """Refuse a backbone and adapters that the head cannot work in."""
        if not hasattr(backbone, "run"):
            raise UserError("config.head.name=eomt needs a plain ViT: dinov2, dinov3, eva02, clip or mae; choose another backbone or head.")
        if backbone.norm is None:
            raise UserError("config.head.name=eomt reads the backbone's last norm; set config.backbone.options.final_norm=True.")
        if self.blocks >= backbone.config.depth:
            raise UserError(f"config.head.blocks is {self.blocks}; it must be below the backbone's {backbone.config.depth} blocks.")
        if any(type(adapter).post_forward is not Adapter.post_forward for adapter in adapters):
            raise UserError("config.head.name=eomt does not go with an adapter that inserts tokens of its own; choose another than vpt.")

    def scores(self, outputs: dict[str, jax.Array], size: tuple[int, int]) -> jax.Array:
        """Semantic scores of the last prediction at size (H, W); see `semantic_scores`."""
        return semantic_scores(outputs["cls"][-1], outputs["mask"][-1], size)

    def probabilities(self, scores: jax.Array) -> jax.Array:
        """See `shares`."""
        return shares(scores)

"""The Mask2Former head (Cheng et al., CVPR 2022), with its object queries linked to Rein's tokens or learned.

The same function as mmseg's Mask2FormerHead and Rein's ReinMask2FormerHead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rein_jax.adapters.base import AnyAdapter, queries_of, stages_of
from rein_jax.errors import UserError
from rein_jax.heads.base import Head, shapes_of
from rein_jax.heads.decoder import DecoderLayer, run_decoder
from rein_jax.heads.pixel_decoder import LEVELS, PixelDecoder
from rein_jax.heads.semantic import semantic_scores, shares
from rein_jax.layers import resize
from rein_jax.layers.fpn import MultiLevelNeck
from rein_jax.layers.init import torch_linear
from rein_jax.layers.norm import layer_norm
from rein_jax.layers.positions import sine_positions
from rein_jax.layers.stack import REMAT, stacked
from rein_jax.trees import param
from rein_jax.weight_rules import Rule

QUERY_SOURCES = ("linked", "learned_feat", "learned")


class Mask2Former(Head):
    """Scores every query for every class and gives it a mask, before the first and after every decoder layer.

    Args:
        backbone: what gives the four maps; or in_channels: their channels, finest first.
        num_classes: K.
        adapter: of the backbone; its object queries are linked by themselves.
        rngs: of the initial values (default: nnx.Rngs(0)).
        num_queries: the queries' number where any part is learned; linked ones come in the adapter's number.
        query_source: None ("linked" where the adapter gives queries, else "learned"); "linked" (the adapter's queries are the query
            positions, and a linear map of them the initial query features: the published Rein recipe), "learned_feat" (the adapter's
            queries are the positions, initial features are learned: Rein with CLIP and SAM), "learned" (both are: plain Mask2Former).
        channels: width. encoder_layers, decoder_layers: of the pixel and the query decoder. heads, points: of the attentions.
        encoder_ffn, decoder_ffn: widths of the feed-forward parts. groups: of the group norms.
        low_memory: deformable attention for some queries at a time (on CPU it always is).
        remat: what the encoder recomputes for gradients ("none", "dots", "full").
        neck: two trained convolutions on every map first (`layers/fpn.py:MultiLevelNeck`), as the official frozen CLIP.

    Raises:
        UserError: a value that cannot be, or an adapter whose queries do not fit.

    Example:
        head = rj.Mask2Former(backbone, num_classes=19, adapter=adapter)
        head = rj.Mask2Former(in_channels=(384,) * 4, num_classes=19)                  # alone: head(maps)
    """

    loss_name = "mask"

    def __init__(self, backbone: nnx.Module | Sequence[int] | None = None, num_classes: int | None = None, *,
                 in_channels: Sequence[int] | None = None, adapter: AnyAdapter = None, rngs: nnx.Rngs | None = None,
                 num_queries: int = 100, query_source: str | None = None, channels: int = 256, encoder_layers: int = 6,
                 decoder_layers: int = 9, heads: int = 8, points: int = 4, encoder_ffn: int = 1024, decoder_ffn: int = 2048,
                 groups: int = 32, low_memory: bool = False, remat: str = "none", neck: bool = False):
        in_channels, num_classes = shapes_of(backbone, in_channels, num_classes, "Mask2Former")
        rngs, linked = rngs or nnx.Rngs(0), None if query_source == "learned" else queries_of(stages_of(adapter))
        query_source = query_source or ("learned" if linked is None else "linked")
        _check(in_channels, channels, heads, groups, query_source, remat)
        self.num_classes, self.channels, self.query_source = num_classes, channels, query_source
        self.neck = MultiLevelNeck(in_channels, rngs=rngs) if neck else None
        self.pixel_decoder = PixelDecoder(
            in_channels, rngs=rngs, channels=channels, layers=encoder_layers, heads=heads, points=points, hidden=encoder_ffn,
            groups=groups, low_memory=low_memory, remat=remat)
        self.layers = stacked(lambda r: DecoderLayer(channels, heads, decoder_ffn, rngs=r), decoder_layers, rngs)
        self.post_norm = layer_norm(channels, 1e-5, rngs=rngs)

        def normal(rows, **wishes):
            return param(jax.random.normal(rngs.params(), (rows, channels)), **wishes)

        self.level_embed = normal(LEVELS, decay=False)
        self.query_feat = normal(num_queries) if query_source != "linked" else None
        self.query_embed = normal(num_queries, decay=False) if query_source == "learned" else None
        self.query_to_feat = torch_linear(channels, channels, rngs=rngs) if query_source == "linked" else None
        self.cls_embed = torch_linear(channels, num_classes + 1, rngs=rngs)
        self.mask_embed = nnx.List([torch_linear(channels, channels, rngs=rngs) for _ in range(3)])
        if linked is not None:
            self._checked(linked)

    def __call__(self, maps: Sequence[jax.Array], queries: jax.Array | None = None, key=None) -> dict[str, jax.Array]:
        """maps: four [B, h_i, w_i, C_i], finest first; queries [M, C] from the adapter -> float32 logits of P predictions:

        {"cls": [P, B, Q, K + 1] (the last class is "no object"), "mask": [P, B, Q, h_0, w_0]}, P = decoder layers + 1; and the masks'
        factors, "embedding" [P, B, Q, C] and "features" [B, h_0, w_0, C], which the loss prefers; and "state" [B, Q, C], from which
        `scores` computes the last prediction alone.
        `key` is unused: the head has no dropout.
        """
        outputs = self.inspect(maps, queries)
        return {name: outputs[name] for name in ("cls", "mask", "embedding", "features", "state")}

    def inspect(self, maps: Sequence[jax.Array], queries: jax.Array | None = None) -> dict[str, Any]:
        """`__call__` with what lies between: also "memories" (low to high resolution) and "blocked", the
        positions closed to each query in the P cross-attentions (bool [B, Q, N] each, before fully closed rows are
        opened; the last one is not used)."""
        features, memories = self.pixel_decoder(maps if self.neck is None else self.neck(maps))
        place, x = self._queries(queries, features.shape[0], features.dtype)
        mask_of = self._mask_rule(features, [memory.shape[1:3] for memory in memories])
        states, blocked = run_decoder(self.layers, x, place, *self._keys_and_values(memories), mask_of)
        y = self.post_norm(states)
        embedding = self._embed(y)
        return {
            "cls": self.cls_embed(y).astype(jnp.float32),
            "mask": self._masks(embedding, features),
            "embedding": embedding,
            "features": features,
            "state": states[-1],
            "memories": memories,
            "blocked": [*blocked, mask_of(states[-1], len(blocked) % LEVELS)],
        }

    def _queries(self, linked: jax.Array | None, batch: int, dtype) -> tuple[jax.Array, jax.Array]:
        """(query positions, initial query features), [B, Q, C] each."""
        if self.query_source == "learned":
            place, features = self.query_embed[...], self.query_feat[...]
        else:
            place = self._checked(linked).astype(dtype)
            features = self.query_to_feat(place) if self.query_source == "linked" else self.query_feat[...]
        return tuple(jnp.broadcast_to(a.astype(dtype), (batch, *a.shape)) for a in (place, features))

    def _checked(self, linked: jax.Array | None) -> jax.Array:
        source = f"head.query_source is {self.query_source!r}"
        if linked is None:
            raise UserError(f"{source}, but the adapter gives no queries; set adapter.link=True, or head.query_source='learned'.")
        if linked.shape[-1] != self.channels:
            raise UserError(f"{source}, but the adapter's queries have {linked.shape[-1]} channels and the head {self.channels}; "
                            "make adapter.query_dims equal to head.channels.")
        if self.query_feat is not None and linked.shape[0] != self.query_feat.shape[0]:
            raise UserError(f"{source}, but the adapter gives {linked.shape[0]} queries and head.num_queries is "
                            f"{self.query_feat.shape[0]}; make adapter.num_tokens equal to head.num_queries.")
        return linked

    def _keys_and_values(self, memories: Sequence[jax.Array]) -> tuple[list[jax.Array], list[jax.Array]]:
        """Per level [B, h * w, C]: values carry the level's embedding, keys also their positions."""
        keys, values = [], []
        for level, memory in enumerate(memories):
            batch, height, width, channels = memory.shape
            value = memory.reshape(batch, -1, channels) + self.level_embed[level].astype(memory.dtype)
            values.append(value)
            keys.append(value + sine_positions(height, width, channels, memory.dtype).reshape(-1, channels))
        return keys, values

    def _mask_rule(self, features: jax.Array, sizes: Sequence[tuple[int, int]]):
        """(x, level) -> bool [B, Q, N]: where the query's mask, shrunk to the level, is below one half. No gradient.

        Resizing is linear, so the features are resized once and not the masks of every layer.
        """
        features = jax.lax.stop_gradient(features)
        small = [resize.bilinear(features, size).reshape(features.shape[0], -1, self.channels) for size in sizes]

        def mask_of(x, level):
            embedding = self._embed(self.post_norm(jax.lax.stop_gradient(x)))
            logits = jnp.einsum("bqc,bnc->bqn", jax.lax.stop_gradient(embedding), small[level],
                                preferred_element_type=jnp.float32)
            return logits < 0

        return mask_of

    def _masks(self, embedding: jax.Array, features: jax.Array) -> jax.Array:
        """Embeddings [P, B, Q, C] times features [B, h, w, C] -> float32 [P, B, Q, h, w], as one product an image."""
        predictions, batch, queries, channels = embedding.shape
        rows = jnp.moveaxis(embedding, 1, 0).reshape(batch, predictions * queries, channels)
        logits = jnp.einsum("bnc,bsc->bns", rows, features.reshape(batch, -1, channels), preferred_element_type=jnp.float32)
        return jnp.moveaxis(logits.reshape(batch, predictions, queries, *features.shape[1:3]), 0, 1)

    def _embed(self, y: jax.Array) -> jax.Array:
        """Mask embedding of normed queries."""
        first, second, third = self.mask_embed
        return third(jax.nn.relu(second(jax.nn.relu(first(y)))))

    def scores(self, outputs: dict[str, jax.Array], size: tuple[int, int]) -> jax.Array:
        """Semantic scores at size (H, W) from the last prediction; see `semantic_scores`."""
        y = self.post_norm(outputs["state"])
        return semantic_scores(self.cls_embed(y), self._masks(self._embed(y)[None], outputs["features"])[0], size)

    def probabilities(self, scores: jax.Array) -> jax.Array:
        """See `shares`."""
        return shares(scores)


def _check(in_channels, channels: int, heads: int, groups: int, query_source: str, remat: str) -> None:
    if len(in_channels) != LEVELS + 1:
        raise UserError(f"Mask2Former reads four feature maps, but the backbone gives {len(in_channels)}; use the pyramid output.")
    if query_source not in QUERY_SOURCES:
        raise UserError(f"head.query_source is {query_source!r}; choose one of {', '.join(QUERY_SOURCES)}.")
    for name, divisor in (("heads", heads), ("groups", groups), ("4 (position encoding)", 4)):
        if channels % divisor:
            raise UserError(f"head.channels is {channels}; it must be a multiple of {name} ({divisor}).")
    if remat not in REMAT:
        raise UserError(f"head.remat is {remat!r}; choose one of {', '.join(REMAT)}.")


def _affine(source: str, target: str, layout: str, leaf: str = "kernel") -> tuple[Rule, Rule]:
    return Rule(f"{source}.weight", f"{target}/{leaf}", layout), Rule(f"{source}.bias", f"{target}/bias")


def _norm(source: str, target: str) -> tuple[Rule, Rule]:
    return _affine(source, target, "same", "scale")


def _attention(source: str, target: str) -> tuple[Rule, ...]:
    """torch's MultiheadAttention inside mmcv's wrapper."""
    return (Rule(f"{source}.attn.in_proj_weight", f"{target}/qkv/kernel", "linear"),
            Rule(f"{source}.attn.in_proj_bias", f"{target}/qkv/bias"),
            *_affine(f"{source}.attn.out_proj", f"{target}/proj", "linear"))


def _feed_forward(source: str, target: str) -> tuple[Rule, ...]:
    layers = (("layers.0.0", "fc1"), ("layers.1", "fc2"))
    return tuple(rule for name, ours in layers for rule in _affine(f"{source}.{name}", f"{target}/{ours}", "linear"))


def rules(source: str = "decode_head.", target: str = "head/") -> tuple[Rule, ...]:
    """Official names of the head ("decode_head." + mmdet's) and ours."""
    pixel, theirs = f"{target}pixel_decoder", f"{source}pixel_decoder"
    encoder, decoder = f"{theirs}.encoder.layers.{{layer}}", f"{source}transformer_decoder.layers.{{layer}}"
    attention = {"sampling_offsets": "offsets", "attention_weights": "weights", "value_proj": "value", "output_proj": "output"}
    out: list[Rule] = []
    for i in range(LEVELS):
        out += [*_affine(f"{theirs}.input_convs.{i}.conv", f"{pixel}/inputs/{i}/conv", "conv1x1"),
                *_norm(f"{theirs}.input_convs.{i}.gn", f"{pixel}/inputs/{i}/norm")]
    for name, ours in attention.items():
        out += _affine(f"{encoder}.self_attn.{name}", f"{pixel}/layers/attn/{ours}", "linear")
    out += _feed_forward(f"{encoder}.ffn", f"{pixel}/layers/ffn")
    out += [r for i in (0, 1) for r in _norm(f"{encoder}.norms.{i}", f"{pixel}/layers/norm{i + 1}")]
    out += [Rule(f"{theirs}.level_encoding.weight", f"{pixel}/level_encoding"),
            Rule(f"{theirs}.lateral_convs.0.conv.weight", f"{pixel}/lateral/conv/kernel", "conv1x1"),
            *_norm(f"{theirs}.lateral_convs.0.gn", f"{pixel}/lateral/norm"),
            Rule(f"{theirs}.output_convs.0.conv.weight", f"{pixel}/output/conv/kernel", "conv"),
            *_norm(f"{theirs}.output_convs.0.gn", f"{pixel}/output/norm"),
            *_affine(f"{theirs}.mask_feature", f"{pixel}/mask_feature", "conv1x1")]
    for name in ("cross_attn", "self_attn"):
        out += _attention(f"{decoder}.{name}", f"{target}layers/{name}")
    out += _feed_forward(f"{decoder}.ffn", f"{target}layers/ffn")
    out += [r for i in (0, 1, 2) for r in _norm(f"{decoder}.norms.{i}", f"{target}layers/norm{i + 1}")]
    out += [*_norm(f"{source}transformer_decoder.post_norm", f"{target}post_norm"),
            *(Rule(f"{source}{name}.weight", f"{target}{name}") for name in ("level_embed", "query_feat", "query_embed")),
            *_affine(f"{source}querys2feat", f"{target}query_to_feat", "linear"),
            *_affine(f"{source}cls_embed", f"{target}cls_embed", "linear")]
    for i in range(3):
        out += _affine(f"{source}mask_embed.{2 * i}", f"{target}mask_embed/{i}", "linear")
    return tuple(out)


RULES = rules()

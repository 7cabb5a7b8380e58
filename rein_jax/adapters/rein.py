"""Rein: learnable tokens that refine the features between the blocks of a frozen backbone (CVPR 2024).

Each block's output f is followed by  f <- f + scale * W_f(S' V + f),  S = softmax(f T' / sqrt(d)) over the m tokens T of that layer,
V = W_t(T), the first token being a sink that is dropped from S and V. Only tokens are per layer; the linear maps are shared. With
`link`, the tokens also give the object queries of the Mask2Former head.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from rein_jax.adapters.base import Adapter, Blocks, LayerContext, active_blocks, block_spec
from rein_jax.errors import UserError
from rein_jax.layers.init import torch_linear
from rein_jax.layers.stack import stacked
from rein_jax.trees import param
from rein_jax.weight_rules import Rule

QUERY_INITS = ("torch", "spread")


class ReinLayer(nnx.Module):
    """What one block owns: its tokens (as a product of rank r, or whole), and its own linear maps if they are not shared."""

    def __init__(self, embed_dim: int, num_tokens: int, rank: int | None, bound: float, maps, *, rngs: nnx.Rngs):
        def uniform(*shape):
            return param(jax.random.uniform(rngs.params(), shape, jnp.float32, -bound, bound), decay=False)

        if rank is None:
            self.tokens = uniform(num_tokens, embed_dim)
        else:
            self.tokens_a, self.tokens_b = uniform(num_tokens, rank), uniform(rank, embed_dim)
        self.maps = maps(rngs) if maps else None

    def whole(self):
        """The tokens [m, d]."""
        return self.tokens[...] if hasattr(self, "tokens") else self.tokens_a[...] @ self.tokens_b[...]


class ReinProjections(nnx.Module):
    """The linear maps of Rein: tokens to values, features to refinement, tokens to queries."""

    def __init__(self, embed_dim: int, query_dims: int, link: bool, zero_delta: bool, init: str, *, rngs: nnx.Rngs):
        self.mlp_token2feat = torch_linear(embed_dim, embed_dim, init=init, rngs=rngs)
        self.mlp_delta_f = torch_linear(embed_dim, embed_dim, init="zeros" if zero_delta else init, rngs=rngs)
        self.transform = torch_linear(embed_dim, query_dims, init=init, rngs=rngs) if link else None


class Rein(Adapter):
    """Rein: learned tokens that refine the features behind every block of a frozen backbone.

    Args:
        backbone: what it adapts, or one of its `block_specs`.
        rngs: of the initial values (default: nnx.Rngs(0)).
        embed_dim, depth, num_prefix_tokens: of the blocks of any other network in place of a backbone, in whose loop
            `x = rein(block(x), layer=i)` is called.
        num_tokens: m, tokens of a layer, the first of which is a sink.
        rank: r of the low-rank tokens, or None for whole ones.
        query_dims: width of the object queries; the head's channels.
        link: give object queries, to which a Mask2Former links its own.
        shared: one set of linear maps for all layers (the paper's form), or one per layer (its ablation).
        blocks: numbers of the blocks it acts on; None for all.
        scale_init: initial refinement scale. zero_mlp_delta_f: start from zero refinement with a fixed scale of 1 instead.
        use_softmax: of the similarities to the tokens.
        init: "torch" (PyTorch's linear default) or "eva02" (N(0, 0.02), zero bias: what the official EVA-02 code ends up with).
        query_init: "torch", or "spread" (ours): initial queries of zero mean and unit variance over the tokens. The original's start
            almost equal to one another, their bias ten times their differences, which a decoder takes long to tell apart.

    Raises:
        UserError: a value that cannot be.

    Example:
        adapter = rj.Rein(backbone, num_tokens=100, rank=16)
        rein = rj.adapters.Rein(embed_dim=768, depth=12, num_prefix_tokens=1)          # in another network: x = rein(block(x), layer=i)
    """

    def __init__(
        self,
        backbone: Blocks | None = None,
        *,
        rngs: nnx.Rngs | None = None,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_prefix_tokens: int = 0,
        num_tokens: int = 100,
        rank: int | None = 16,
        query_dims: int = 256,
        link: bool = True,
        shared: bool = True,
        blocks: tuple[int, ...] | None = None,
        scale_init: float = 1e-3,
        zero_mlp_delta_f: bool = False,
        use_softmax: bool = True,
        init: str = "torch",
        query_init: str = "torch",
    ):
        if query_init not in QUERY_INITS:
            raise UserError(f"config.adapter.query_init is {query_init!r}; it is one of {', '.join(QUERY_INITS)}.")
        if num_tokens < 2:
            raise UserError(f"config.adapter.num_tokens is {num_tokens}; Rein needs at least 2 (the first one is a sink).")
        spec = block_spec(backbone, embed_dim=embed_dim, depth=depth, num_prefix_tokens=num_prefix_tokens)
        rngs = rngs or nnx.Rngs(0)
        self.spec, self.use_softmax, self.link, self.shared = spec, use_softmax, link, shared
        self.active = active_blocks(blocks, spec)
        count = spec.depth if self.active is None else len(self.active)
        effective = spec.embed_dim if rank is None else math.sqrt(spec.embed_dim * rank)
        bound = math.sqrt(6.0 / (3 * spec.patch**2 + effective))

        def maps(rngs):
            return ReinProjections(spec.embed_dim, query_dims, link, zero_mlp_delta_f, init, rngs=rngs)

        own = None if shared else maps
        self.layers = stacked(lambda r: ReinLayer(spec.embed_dim, num_tokens, rank, bound, own, rngs=r), count, rngs)
        self.maps = maps(rngs) if shared else None
        self.scale = None if zero_mlp_delta_f else param(jnp.asarray(scale_init, jnp.float32), decay=False)
        self.merge = torch_linear(3 * query_dims, query_dims, init=init, rngs=rngs) if link else None
        if link and query_init == "spread":
            self._spread()

    def _spread(self) -> None:
        """Scale and shift `merge` so that every channel of the queries has mean 0 and variance 1 over the tokens."""
        queries = self.queries()
        mean, deviation = queries.mean(0), jnp.maximum(queries.std(0), 1e-12)
        self.merge.kernel[...] = self.merge.kernel[...] / deviation
        self.merge.bias[...] = (self.merge.bias[...] - mean) / deviation

    def post_block(self, context: LayerContext, x):
        """f <- f + scale * refine(f) on patch tokens; the prefix tokens pass unchanged. x [B, N, d]."""
        refined = self.refine(context.layer, x)
        if self.scale is not None:
            refined = refined * self.scale[...].astype(x.dtype)
        if context.num_prefix_tokens:
            refined = jnp.where((jnp.arange(x.shape[1]) >= context.num_prefix_tokens)[None, :, None], refined, 0)
        return x + refined

    def refine(self, layer: ReinLayer, f):
        """W_f(S' V + f) for features f [B, N, d]. Products run through the tokens' rank where they have one."""
        maps = self.maps if self.shared else layer.maps
        to_value, to_refined = maps.mlp_token2feat, maps.mlp_delta_f
        low_rank = not hasattr(layer, "tokens")
        if low_rank:
            a, b = layer.tokens_a[...].astype(f.dtype), layer.tokens_b[...].astype(f.dtype)
            logits = (f @ b.T) @ a.T
        else:
            whole = layer.whole().astype(f.dtype)
            logits = f @ whole.T
        if self.use_softmax:
            share = jax.nn.softmax(logits.astype(jnp.float32) * self.spec.embed_dim**-0.5, axis=-1).astype(f.dtype)
        else:
            share = logits
        share = share[..., 1:]
        if low_rank:  # S' V = (S' A)(B W_t) + (sum of S') b_t
            mixed = (share @ a[1:]) @ (b @ to_value.kernel[...]) + share.sum(-1, keepdims=True) * to_value.bias[...]
        else:
            mixed = share @ to_value(whole[1:])
        return to_refined(mixed + f)

    def queries(self):
        """Object queries [m, query_dims]: maximum, mean and last over the layers of the transformed tokens, merged; None without link.

        The three are interleaved channel by channel before `merge`, as in the original.
        """
        if not self.link:
            return None

        graph, state = nnx.split(self.layers)

        def transformed(layer_state):
            layer = nnx.merge(graph, layer_state)
            maps = self.maps if self.shared else layer.maps
            return maps.transform(layer.whole())

        every = jax.vmap(transformed)(state)  # [L, m, C]
        three = jnp.stack([every.max(0), every.mean(0), every[-1]], axis=-1)
        return self.merge(three.reshape(three.shape[0], -1))


def rules(source: str, target: str) -> tuple[Rule, ...]:
    """Official names of one shared-map Rein ("backbone.reins.", "adapters/0/"); for CNNs one call a stage."""
    linears = [("maps/mlp_token2feat", "mlp_token2feat"), ("maps/mlp_delta_f", "mlp_delta_f")]
    linears += [("maps/transform", "transform"), ("merge", "merge")]
    out = [Rule(f"{source}scale", f"{target}scale")]
    for part in ("learnable_tokens_a", "learnable_tokens_b", "learnable_tokens"):
        out.append(Rule(f"{source}{part}", f"{target}layers/{part.removeprefix('learnable_')}"))
    for ours, theirs in linears:
        out.append(Rule(f"{source}{theirs}.weight", f"{target}{ours}/kernel", "linear"))
        out.append(Rule(f"{source}{theirs}.bias", f"{target}{ours}/bias"))
    return tuple(out)

"""The transformer decoder of Mask2Former: queries read the maps where their own masks let them (Cheng et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from rein_jax.heads.pixel_decoder import LEVELS, XAVIER_NORMAL, FeedForward
from rein_jax.kernels.attention import attend
from rein_jax.layers.attention import split_heads
from rein_jax.layers.norm import layer_norm


class MultiHeadAttention(nnx.Module):
    """torch.nn.MultiheadAttention with separate inputs for queries, keys and values; kernel of qkv ordered [q | k | v]."""

    def __init__(self, embed_dim: int, heads: int, *, rngs: nnx.Rngs):
        self.heads = heads
        self.qkv = nnx.Linear(embed_dim, 3 * embed_dim, kernel_init=XAVIER_NORMAL, rngs=rngs)
        self.proj = nnx.Linear(embed_dim, embed_dim, kernel_init=XAVIER_NORMAL, rngs=rngs)

    def __call__(self, query: jax.Array, key: jax.Array, value: jax.Array, allowed: jax.Array | None = None) -> jax.Array:
        """query [B, Q, C], key and value [B, N, C], allowed bool [B, Q, N] -> [B, Q, C]. Softmax in float32."""
        kernels = jnp.split(self.qkv.kernel[...], 3, axis=-1)
        biases = jnp.split(self.qkv.bias[...], 3)
        q, k, v = (split_heads(x @ w + b, self.heads) for x, w, b in zip((query, key, value), kernels, biases, strict=True))
        y = attend(q, k, v, allowed=allowed)
        return self.proj(y.reshape(query.shape))


class DecoderLayer(nnx.Module):
    """Masked cross-attention, self-attention, feed-forward; each with residual and norm after it."""

    def __init__(self, embed_dim: int, heads: int, hidden: int, *, rngs: nnx.Rngs):
        self.cross_attn = MultiHeadAttention(embed_dim, heads, rngs=rngs)
        self.self_attn = MultiHeadAttention(embed_dim, heads, rngs=rngs)
        self.ffn = FeedForward(embed_dim, hidden, rngs=rngs)
        self.norm1, self.norm2, self.norm3 = (layer_norm(embed_dim, 1e-5, rngs=rngs) for _ in range(3))

    def __call__(self, x, place, key, value, allowed) -> jax.Array:
        """x and place (query positions) [B, Q, C], key and value [B, N, C], allowed bool [B, Q, N] -> [B, Q, C]."""
        x = self.norm1(x + self.cross_attn(x + place, key, value, allowed))
        x = self.norm2(x + self.self_attn(x + place, x + place, x))
        return self.norm3(x + self.ffn(x))


@jax.named_scope("decoder")
def run_decoder(layers: nnx.Module, x: jax.Array, place: jax.Array, keys: Sequence[jax.Array], values: Sequence[jax.Array],
                mask_of) -> tuple[jax.Array, list[jax.Array]]:
    """All decoder layers; layer i reads level i mod 3.

    layers: stacked DecoderLayers. mask_of(x, level) -> blocked bool [B, Q, N]. Returns (x before the first and after every
    layer, [P, B, Q, C]; the blocked positions of each layer, before fully blocked rows are opened).
    Whole rounds of three layers are scanned, so that the program holds three layers and not nine.
    """
    graph, states = nnx.split(layers)
    depth = jax.tree.leaves(states)[0].shape[0]
    rounds, rest = divmod(depth, LEVELS)

    def layer(x, state, level):
        blocked = mask_of(x, level)
        # A query that may look nowhere looks everywhere, as in the original; softmax over nothing would be NaN.
        allowed = ~blocked | jnp.all(blocked, axis=-1, keepdims=True)
        y = nnx.merge(graph, state)(x, place, keys[level], values[level], allowed)
        return y.astype(x.dtype), blocked

    def run(x, state, count):
        after, masks = [], []
        for level in range(count):
            x, blocked = layer(x, jax.tree.map(lambda a: a[level], state), level)  # noqa: B023
            after.append(x)
            masks.append(blocked)
        return x, (jnp.stack(after), masks)

    outputs, masks = [x[None]], []
    if rounds:
        head = jax.tree.map(lambda a: a[: rounds * LEVELS].reshape(rounds, LEVELS, *a.shape[1:]), states)
        x, (after, blocked) = jax.lax.scan(lambda x, state: run(x, state, LEVELS), x, head)
        outputs.append(after.reshape(-1, *x.shape))
        masks += [blocked[i % LEVELS][i // LEVELS] for i in range(rounds * LEVELS)]
    if rest:
        x, (after, blocked) = run(x, jax.tree.map(lambda a: a[rounds * LEVELS:], states), rest)
        outputs.append(after)
        masks += blocked
    return jnp.concatenate(outputs), masks

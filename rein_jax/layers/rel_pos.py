"""Decomposed relative positions (as in SAM and ViTDet), folded into the queries and keys of ordinary attention.

The bias of query (i, j) and key (k, l) is  q . R_h[i - k] + q . R_w[j - l]  with q unscaled. Written as an inner product it costs nothing
but channels: q gains the values q . R_h[i - k] for every row k and q . R_w[j - l] for every column l, the key gains the one-hot codes of
its row and column. No [N, N] array of biases is made, and flash attention stays possible.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from rein_jax.kernels.attention import attend
from rein_jax.layers.resize import resize


def offsets(table, n: int):
    """R[i - k] of every pair of n positions: table [2m - 1, hd] -> [n, n, hd]; resized linearly if m != n."""
    table = resize(table, (2 * n - 1,), "bilinear", axes=(0,))
    return table[np.arange(n)[:, None] - np.arange(n)[None, :] + n - 1]


def attend_with_positions(q, k, v, rows, columns, grid: tuple[int, int]):
    """Attention over a grid of h x w tokens with decomposed relative positions.

    q, k, v [B, h*w, heads, hd]; rows, columns: tables [2m - 1, hd] (any m). Returns [B, h*w, heads, hd].
    """
    h, w = grid
    b, n, heads, hd = q.shape
    scale = hd**-0.5
    on_grid = q.reshape(b, h, w, heads, hd)
    by_row = jnp.einsum("bijnc,ikc->bijnk", on_grid, offsets(rows, h).astype(q.dtype))
    by_column = jnp.einsum("bijnc,jlc->bijnl", on_grid, offsets(columns, w).astype(q.dtype))
    bias = jnp.concatenate([by_row, by_column], axis=-1).reshape(b, n, heads, h + w) / scale  # attention scales it back
    where = np.concatenate([np.repeat(np.eye(h), w, axis=0), np.tile(np.eye(w), (h, 1))], axis=1)  # [h*w, h + w]
    code = jnp.broadcast_to(jnp.asarray(where, q.dtype)[None, :, None], (b, n, heads, h + w))
    width = -(-(hd + h + w) // 8) * 8  # flash kernels want a multiple of 8
    q, k, v = (_widen(parts, width) for parts in ([q, bias], [k, code], [v]))
    return attend(q, k, v, scale=scale)[..., :hd]


def _widen(parts, width: int):
    """The parts side by side on the last axis, with zeros up to the given width."""
    missing = width - sum(part.shape[-1] for part in parts)
    zeros = jnp.zeros((*parts[0].shape[:-1], missing), parts[0].dtype)
    return jnp.concatenate([*parts, zeros], axis=-1)

"""Cutting a map of tokens into square windows and putting it together again."""

from __future__ import annotations

import jax.numpy as jnp


def cut(x, size: int):
    """[B, h, w, d] -> [B * windows, size*size, d]; sides are padded with zeros at the bottom and right to multiples of `size`."""
    b, h, w, d = x.shape
    x = jnp.pad(x, ((0, 0), (0, -h % size), (0, -w % size), (0, 0)))
    rows, columns = x.shape[1] // size, x.shape[2] // size
    x = x.reshape(b, rows, size, columns, size, d).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b * rows * columns, size * size, d)


def join(windows, size: int, grid: tuple[int, int]):
    """The inverse of `cut` for a map of h x w tokens: [B * windows, size*size, d] -> [B, h, w, d]."""
    (h, w), d = grid, windows.shape[-1]
    rows, columns = -(-h // size), -(-w // size)
    x = windows.reshape(-1, rows, columns, size, size, d).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, rows * size, columns * size, d)[:, :h, :w]

"""Changes of resolution that a checkpoint needs to fit the model: patch kernels, position embeddings, relative positions.

Each hook takes the array in our layout and the shape wanted, and returns the array in that shape (float32 arithmetic, as
torch's `F.interpolate` without antialiasing). A `Rule` names its hook in `resize`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rein_jax.errors import UserError
from rein_jax.layers.resize import offset_factors, resize_numpy

_PREFIXES = (1, 0, 2, 5)  # class token; none; with a distillation token; with four registers


@dataclass(frozen=True)
class Fit:
    """How to fit a file to a model. grid: patches (h, w) of the model's position embedding (None = square). offset: DINOv2's
    `interpolate_offset` (0 = exact ratio, as the official conversion does; 0.1 = as its forward pass does)."""

    grid: tuple[int, int] | None = None
    offset: float = 0.0


def patch(array: np.ndarray, shape: Sequence[int], fit: Fit) -> np.ndarray:
    """A patch kernel [h, w, in, out] at another patch size, bicubic."""
    return resize_numpy(_float(array), shape[:2], "bicubic", axes=(0, 1))


def pos_embed(array: np.ndarray, shape: Sequence[int], fit: Fit, kind: str = "bicubic") -> np.ndarray:
    """A position embedding [1, N, d], [N, d] or [1, h, w, d] at another grid; class-token rows are kept.

    Rows in front of the grid (a class token, a distillation token, four registers) are those that make the rest a square. A file
    without such rows (timm adds the class token's to the token itself) gets zeros there.
    """
    array = _float(array)
    if array.ndim == 4:
        return _grid(array, tuple(shape[1:3]), fit, kind)
    lead, tokens, width = array.shape[:-2], array.shape[-2], array.shape[-1]
    wanted = shape[-2]
    if tokens == wanted and not _square(tokens):
        return array  # already made for this oblong grid
    prefix, old = _prefix(tokens)
    if fit.grid is not None:
        new, kept = fit.grid, wanted - fit.grid[0] * fit.grid[1]
    else:
        kept, new = _prefix(wanted)
    if kept not in (prefix, 0) and prefix != 0 or kept < 0:
        raise UserError(f"A position embedding of {tokens} rows does not fit one of {wanted} rows for a grid of {new[0]}x{new[1]}.")
    rows = array.reshape(-1, tokens, width)
    front = rows[:, :prefix][:, :kept] if prefix else np.zeros((len(rows), kept, width), array.dtype)
    grid = _grid(rows[:, prefix:].reshape(-1, *old, width), new, fit, kind)
    return np.concatenate([front, grid.reshape(-1, new[0] * new[1], width)], axis=1).reshape(*lead, wanted, width)


def pos_embed_bilinear(array: np.ndarray, shape: Sequence[int], fit: Fit) -> np.ndarray:
    """As `pos_embed`, bilinear (CLIP in Rein)."""
    return pos_embed(array, shape, fit, "bilinear")


def rel_pos(array: np.ndarray, shape: Sequence[int], fit: Fit) -> np.ndarray:
    """A table of relative positions [..., n, d] at another length, linear (SAM)."""
    return resize_numpy(_float(array), shape[-2:-1], "bilinear", axes=(array.ndim - 2,))


HOOKS: dict[str, Callable] = {"patch": patch, "pos_embed": pos_embed, "pos_embed_bilinear": pos_embed_bilinear, "rel_pos": rel_pos}


def _float(array: np.ndarray) -> np.ndarray:
    """Half-precision values as float32, as the official conversions do."""
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _grid(array: np.ndarray, size: tuple[int, int], fit: Fit, kind: str) -> np.ndarray:
    """[b, h, w, d] at another grid; an equal grid is left as it is."""
    old = array.shape[1:3]
    if tuple(old) == tuple(size):
        return array
    return resize_numpy(array, size, kind, axes=(1, 2), factors=offset_factors(old, size, fit.offset))


def _square(tokens: int) -> tuple[int, tuple[int, int]] | None:
    """(rows in front, square grid) of a position embedding with that many rows, None if there is none."""
    for prefix in _PREFIXES:
        side = math.isqrt(max(tokens - prefix, 0))
        if side and side * side == tokens - prefix:
            return prefix, (side, side)
    return None


def _prefix(tokens: int) -> tuple[int, tuple[int, int]]:
    """The same; UserError if there is none."""
    found = _square(tokens)
    if found is None:
        raise UserError(f"A position embedding of {tokens} rows is not a square grid; give the grid (config.backbone.image_size).")
    return found

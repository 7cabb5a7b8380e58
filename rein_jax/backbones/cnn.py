"""What the convolutional backbones share: maps that adapters see as tokens, and stages run one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from rein_jax.adapters.base import Adapter
from rein_jax.backbones.run_blocks import run_blocks
from rein_jax.kernels.loops import unroll_convolutions
from rein_jax.layers.patch import square


def as_map(tokens, grid: tuple[int, int] | None):
    """[B, h*w, C] -> [B, h, w, C]; grid=None: a square."""
    return tokens.reshape(tokens.shape[0], *(grid or square(tokens)), tokens.shape[-1])


def as_tokens(x):
    """[B, h, w, C] -> [B, h*w, C]."""
    return x.reshape(x.shape[0], -1, x.shape[-1])


def adapter_of(adapters: Sequence[Adapter], stage: int) -> Adapter | None:
    """The adapter of a stage, or None."""
    return adapters[stage] if adapters else None


def run_last(blocks, tokens, *, offset: int, depth: int, unroll: bool, **options):
    """`run_blocks` over a stack of `depth` blocks that starts at block `offset` of its stage; only the last output."""
    if not depth:
        return tokens
    return run_blocks(blocks, tokens, offset=offset, unroll=unroll_convolutions(unroll), **options)[0]


def stage_key(key, stage: int):
    """The random key of a stage (None stays None)."""
    return None if key is None else jax.random.fold_in(key, stage)

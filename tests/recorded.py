"""Recorded cases of the official code (tests/fixtures): their arrays, and their random weights made again from a seed.

The official code ran on weights that depend on nothing but an array's official name, its shape and the case's seed. So a case holds
inputs and outputs only; `weights` makes the rest, and test_recorded.py holds every bit of it."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path

import numpy as np

FIXTURES = Path(__file__).parent / "fixtures"


def arrays(case: str, part: str) -> dict[str, np.ndarray]:
    """The arrays of tests/fixtures/<case>/<part>.npz; "weights" of a case that has none on file are made."""
    file = FIXTURES / case / f"{part}.npz"
    if part == "weights" and not file.exists():
        return weights(case)
    with np.load(file) as opened:
        return dict(opened)


def weights(case: str) -> dict[str, np.ndarray]:
    """The official weights of a case, float32, under their official names; buffers, which our models make for themselves, are zeros."""
    meta, made = json.loads((FIXTURES / case / "meta.json").read_text()), {}
    for name, shape in meta["weights_shapes"].items():
        if name.startswith("buffer:"):
            made[name.removeprefix("buffer:")] = np.zeros(shape, np.float32)
        else:
            made[name] = random_weight(name, shape, meta["seed"])
    return made


def random_weight(name: str, shape, seed: int) -> np.ndarray:
    """The random value that every recorded run has for an official array: nothing is zero or one, and outputs stay of size one.

    NumPy promises that `RandomState` never changes."""
    random = np.random.RandomState((zlib.crc32(name.encode()) + 7919 * seed) % 2**32)
    last, fan_in = name.rpartition(".")[2], int(np.prod(shape[1:]))
    if last == "scale":
        value = random.uniform(0.3, 0.8, shape)
    elif re.search(r"(norm\w*|norms\.\d+|\bgn|ffn_ln|bn\d?)\.weight$", name):
        value = random.uniform(0.6, 1.4, shape)
    elif "gamma" in last:
        size = random.uniform(0.2, 0.9, shape)
        value = np.where(random.uniform(size=shape) < 0.3, -size, size)
    else:
        value = random.standard_normal(tuple(shape)) * _deviation(name, last, shape, fan_in)
    return value.astype(np.float32)


def _deviation(name: str, last: str, shape, fan_in: int) -> float:
    """Standard deviation of an array of normal values."""
    if last == "learnable_tokens_b":
        return shape[-2] ** -0.5
    if "sampling_offsets.bias" in name:
        return 2.0
    if last in ("learnable_tokens", "learnable_tokens_a") or re.search(r"level_embed|level_encoding|query_feat|query_embed", name):
        return 1.0
    if last in ("pos_embed", "cls_token", "mask_token"):
        return 0.5
    if len(shape) < 2:
        return 0.1
    # The outputs of the decoder's attention and MLP are small, which keeps the queries apart through nine layers with the norm behind.
    small = r"transformer_decoder\.layers\.\d+\.(\w+_attn\.attn\.out_proj|ffn\.layers\.1)\.weight$"
    factor = 0.5 if "sampling_offsets" in name else 0.4 if re.search(small, name) else 2.0 if "cls_embed" in name else 1.0
    return factor * fan_in**-0.5

"""Which parameters decay, and their factors on the learning rate.

What holds wherever a parameter is trained it says itself (`trees.param(value, decay=False)`: norms, Rein's tokens, query positions).
Groups hold what a recipe does otherwise; the presets restate the published ones (mmengine's `paramwise_cfg`) for our names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rein_jax import trees
from rein_jax.errors import UserError
from rein_jax.registry import unknown


@dataclass(frozen=True)
class Group:
    """Parameters whose name `pattern` matches from the start: factors on weight decay and learning rate.

    decay: None for what the parameter says itself, 1 or 0. optional: the pattern may match nothing (presets serve several heads and
    adapters at once).
    """

    pattern: str
    decay: float | None = 1.0
    lr: float = 1.0
    optional: bool = False


_REST = Group(".*", None)
_QUERIES = Group(r"head/query_feat$", 0.0, optional=True)

# Biases, level_encoding and (but for the presets that say otherwise) learned query_feat do decay in the original.
PRESETS: dict[str, tuple[Group, ...]] = {
    "rein_512": (_REST,),
    "rein_1024": (_REST,),
    # One Rein a stage: the original's key "reins.scale" does not occur in "reins.0.scale", so the scales decay.
    "rein_cnn": (Group(r"adapters/\d+/scale$", 1.0, optional=True), _REST),
    "full_512": (_REST,),
    # The paper's text, unlike its shipped config, gives the backbone a tenth of the learning rate.
    "full_paper": (Group("backbone/", None, 0.1), _REST),
    "eomt": (Group(".*", 1.0),),
    "frozen_512": (_QUERIES, _REST),
    "recyclelora": (Group("adapters/.*_sub_", None, 0.5, optional=True), _QUERIES, _REST),
    "soma": (Group("(adapters|backbone)/", None, 0.5), _QUERIES, _REST),
}


def assign_groups(groups: str | Sequence | None, wishes: Mapping[str, trees.Wishes]) -> dict[str, Group]:
    """{name: the group it belongs to, its decay a number}; None: every parameter as it says itself.

    An uncovered name, or a group that is not optional and matches nothing, is a UserError.
    """
    if isinstance(groups, str) and groups not in PRESETS:
        raise unknown(groups, PRESETS, "optim.groups preset")
    rows = (_REST,) if groups is None else PRESETS[groups] if isinstance(groups, str) else tuple(_group(row) for row in groups)
    first = {next((i for i, row in enumerate(rows) if re.match(row.pattern, name)), None) for name in wishes}
    used = [row for i, row in enumerate(rows) if i in first or not row.optional]
    found = trees.first_match([(row.pattern, row) for row in used], wishes)
    return {name: replace(group, decay=float(wishes[name].decay)) if group.decay is None else group for name, group in found.items()}


def _group(row: Any) -> Group:
    try:
        group = row if isinstance(row, Group) else Group(*row)
        re.compile(group.pattern)
    except (TypeError, re.error) as error:
        raise UserError(f"The row {row!r} of optim.groups is not (pattern, decay[, lr[, optional]]): {error}.") from error
    return group


def layer_factors(decay: float, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The factor of `layer_decay` on each parameter: a number, or for stacked blocks one for each, to be multiplied with the array."""
    if decay == 1:
        return dict.fromkeys(arrays, 1.0)
    depth = max((a.shape[0] for name, a in arrays.items() if name.startswith("backbone/blocks/")), default=1)
    if depth == 1 or any(re.match(r"backbone/blocks/\d", name) for name in arrays):  # SAM and ConvNeXt keep theirs in several stacks
        raise UserError(f"optim.layer_decay is {decay}, but no blocks of a plain ViT are trained; set it to 1.")
    blocks = (decay ** np.arange(depth - 1, -1, -1, dtype=np.float64)).astype(np.float32)

    def one(name, array):
        if name.startswith("backbone/blocks/"):
            return blocks.reshape(depth, *(1,) * (len(array.shape) - 1))
        before = name.startswith("backbone/") and not name.startswith("backbone/norm/")
        return decay ** (depth - 1) if before else 1.0

    return {name: one(name, array) for name, array in arrays.items()}

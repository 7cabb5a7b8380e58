"""Weighted choices, quicker than `Generator.choice` for a handful of options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def pick(rng: np.random.Generator, options: Mapping | Sequence) -> Any:
    """One option of a sequence, all equally likely, or of a mapping {option: weight}. Always takes one draw."""
    draw = rng.random()
    if not isinstance(options, Mapping):
        return options[int(draw * len(options))]
    draw *= sum(options.values())
    names = list(options)
    for name in names[:-1]:
        draw -= options[name]
        if draw < 0:
            return name
    return names[-1]

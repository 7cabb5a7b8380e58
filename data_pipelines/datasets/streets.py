"""Streets: procedural street scenes with exact labels, made on the fly; nothing to download. See `data_pipelines/streets`.

Licence: Apache-2.0, as this package. Options: `style` (clear, night, fog, rain, snow, city), `length`, `size=(height, width)`,
`seed`, `edition` (2; 1 as first published).
Splits: train 2,000, val 200, test 200 by default.
"""

from __future__ import annotations

import inspect
from typing import Any

from data_pipelines.errors import DataError
from data_pipelines.streets import Streets


def open_streets(
    split: str = "train", source: Any = None, *, policy: str = "raise", exif: str = "apply", **options: Any
) -> Streets:
    """Opens one split; `policy` and `exif` are taken for uniformity, since nothing is read that could be damaged."""
    if source is not None:
        raise DataError(f"streets is made on the fly and reads nothing; leave out the source ({source}).")
    known = [name for name in inspect.signature(Streets).parameters if name != "split"]
    for key in options:
        if key not in known:
            raise DataError(f"streets has no option {key!r}; it knows {', '.join(sorted(known))}.")
    return Streets(split=split, **options)

"""Label files -> train ids: one decoder for each way in which labels are stored. Each can be written as JSON and read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.images import decode_colours, decode_label, decode_synthia
from data_pipelines.labels import IdMap

_UNKNOWN = 254


@dataclass(frozen=True)
class IndexLabels:
    """Decodes label pictures whose values are class ids."""

    ids: IdMap

    def __call__(self, data: bytes, file: str) -> np.ndarray:
        """Encoded label -> uint8 [H, W] train ids; raises DataError with the name `file`."""
        return self.ids(self.raw(data, file), file)

    def raw(self, data: bytes, file: str) -> np.ndarray:
        """Encoded label -> integer [H, W] of the values as stored."""
        return decode_label(data, file)


@dataclass(frozen=True)
class SynthiaLabels:
    """Decodes Synthia's 16-bit three-channel label pictures."""

    ids: IdMap

    def __call__(self, data: bytes, file: str) -> np.ndarray:
        """Encoded label -> uint8 [H, W] train ids; raises DataError with the name `file`."""
        return self.ids(self.raw(data, file), file)

    def raw(self, data: bytes, file: str) -> np.ndarray:
        """Encoded label -> uint16 [H, W] of the ids as stored."""
        return decode_synthia(data, file)


@dataclass(frozen=True)
class ColourLabels:
    """Decodes colour-coded label pictures; `colours` lists (red, green, blue, train id)."""

    colours: tuple[tuple[int, int, int, int], ...]

    def __call__(self, data: bytes, file: str) -> np.ndarray:
        """Encoded label -> uint8 [H, W] train ids; raises DataError with the name `file`."""
        rgb = decode_colours(data, file)
        codes = (rgb[..., 0].astype(np.int32) << 16) | (rgb[..., 1].astype(np.int32) << 8) | rgb[..., 2]
        mapped = _colour_table(self.colours)[codes]
        stranger = mapped == _UNKNOWN
        if stranger.any():
            colour = tuple(int(v) for v in rgb[stranger][0])
            kinds = len(np.unique(codes[stranger]))
            more = f" and {kinds - 1:,} more colours" if kinds > 1 else ""
            smoothed = "; so many colours mean smoothing or JPEG: save it again as PNG without" if kinds > 16 else ""
            raise DataError(
                f"{file} holds colour {colour}{more}, which the class list does not give, in {stranger.sum():,} of {stranger.size:,} "
                f"pixels; add {'it' if kinds == 1 else 'them'} to the list or correct the mask{smoothed}."
            )
        return mapped


@lru_cache(maxsize=4)
def _colour_table(colours: tuple[tuple[int, int, int, int], ...]) -> np.ndarray:
    table = np.full(1 << 24, _UNKNOWN, np.uint8)
    for red, green, blue, train_id in colours:
        table[red << 16 | green << 8 | blue] = train_id
    return table


_KINDS = {"index": IndexLabels, "synthia": SynthiaLabels}


def to_json(decoder: Any) -> dict[str, Any] | None:
    """A decoder as JSON values; None stands for a split without labels."""
    if decoder is None:
        return None
    if isinstance(decoder, ColourLabels):
        return {"kind": "colour", "colours": [list(row) for row in decoder.colours]}
    kind = next(name for name, cls in _KINDS.items() if type(decoder) is cls)
    made = {"kind": kind, "name": decoder.ids.name, "ids": {str(value): train for value, train in decoder.ids.ids.items()}}
    return made if decoder.ids.rest is None else {**made, "rest": decoder.ids.rest}


def from_json(spec: Mapping[str, Any] | None) -> Any:
    """The decoder that `to_json` described."""
    if spec is None:
        return None
    if spec["kind"] == "colour":
        return ColourLabels(tuple(tuple(row) for row in spec["colours"]))
    ids = {int(value): train for value, train in spec["ids"].items()}
    return _KINDS[spec["kind"]](IdMap(spec["name"], ids, spec.get("rest")))

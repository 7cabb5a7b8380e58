"""How an evaluation measures, checked once and stated with every result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from data_pipelines.protocols import Protocol
from data_pipelines.protocols import protocol as find_protocol
from rein_jax.evaluation.windows import pair


@dataclass(frozen=True)
class Options:
    """`evaluator.evaluate` describes each."""

    protocol: Protocol
    mode: str
    crop: tuple[int, int]
    stride: tuple[int, int]
    scales: tuple[float, ...]
    flip: bool
    measures: tuple[str, ...]
    save_predictions: bool
    panels: int
    save_every: int
    threads: int
    progress: bool

    def describe(self) -> dict[str, Any]:
        """The protocol as results.json states it."""
        if self.mode == "files":
            return {"name": "full", "mode": "files", "text": "predictions read from files, at the size of the file"}
        window = f"slide {_size(self.crop)} stride {_size(self.stride)}" if self.mode == "slide" else "whole image"
        views = f"scales {', '.join(f'{s:g}' for s in self.scales)}" if self.scales != (1.0,) else "single scale"
        text = f"{self.protocol.name}, {window}, {views}, {'with' if self.flip else 'no'} flip"
        slide = {"crop": list(self.crop), "stride": list(self.stride)} if self.mode == "slide" else {}
        return {"name": self.protocol.name, "mode": self.mode, **slide, "scales": list(self.scales), "flip": self.flip, "text": text}


def options(protocol, mode, crop, stride, scales, flip, boundary, calibration, save_predictions, panels, save_every, threads,
            progress) -> Options:
    """Arguments of `evaluate` -> Options; "official_512" is understood as "official-512"."""
    name = protocol.replace("_", "-") if isinstance(protocol, str) else protocol
    measures = (("boundary",) if boundary else ()) + (("calibration",) if calibration else ())
    return Options(find_protocol(name), mode, pair(crop), pair(stride), tuple(float(s) for s in scales), bool(flip), measures,
                   bool(save_predictions), int(panels), max(int(save_every), 1), int(threads), bool(progress))


def _size(size: tuple[int, int]) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[1]}x{size[0]}"

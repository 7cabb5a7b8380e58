"""What the trainer reads from a config: the section `config.train` and four top-level keys, each with its default.

A config file need not spell a key to use its default; `rein_jax.configuration.files.load` fills in what is missing before the
command line's overrides are applied, so that every key below can be overridden.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from data_pipelines.spelling import did_you_mean
from rein_jax.errors import UserError


@dataclass(frozen=True)
class Settings:
    """`config.train`: how long, how often, and what the guards allow."""

    steps: int = 1000  # optimizer steps
    batch: int = 4  # images per optimizer step, over all devices and processes
    accumulate: int = 1  # micro-batches per optimizer step; divides `batch`
    log_every: int = 10  # steps between two lines of metrics.jsonl
    eval_every: int = 0  # steps between evaluations; 0 = only at the end
    eval_images: int = 0  # images of each domain, evenly spaced, at those evaluations; 0 = all (the one at the end is of all)
    eval_at_end: bool = True
    checkpoint_every: int = 200  # steps between checkpoints; 0 = only at the end and on SIGTERM
    keep: int = 3  # newest checkpoints kept, beside the best one
    ema: float = 0.0  # decay of the moving average of the trainable leaves (evaluated and exported if > 0); 0 = off
    ema_start: int = 0  # step up to which the average equals the weights; 0: it begins at once, with a short memory that grows to `ema`
    skip_limit: int = 20  # steps skipped for NaN/inf in a row before the run is given up
    spike: float = 4.0  # warn when the loss exceeds this many times its running median; 0 = off
    compile_budget: int = 1  # compilations of the training step before the run is failed; 0 = no limit
    transfer_guard: bool = True  # refuse implicit copies between host and device inside the training loop
    deterministic: bool = False  # deterministic kernels on GPU (slower); CPU and TPU are deterministic anyway
    profile: str = ""  # "10:15" writes a profiler trace of steps 10 to 14 under WORKDIR/profile
    tensorboard: bool = True

    def of_step(self) -> dict[str, Any]:
        """What `make_step` is given of these."""
        return {"accumulate": self.accumulate, "ema": self.ema, "ema_start": self.ema_start, "steps": self.steps}


TOP_LEVEL: dict[str, Any] = {
    "seed": 0,  # of everything random: data order, augmentation, initial values, dropout
    "precision": "auto",  # "fp32", "bf16", or "auto": fp32 on CPU, bf16 elsewhere
    "mesh": {"data": -1, "fsdp": 1},  # devices per axis; one -1 takes what is left
    "sharding": "dp",  # "dp": parameters on every device; "fsdp": large arrays split over the axis "fsdp"
}


def defaults() -> dict[str, Any]:
    """Everything the trainer reads, as a nested dict."""
    return {**TOP_LEVEL, "mesh": dict(TOP_LEVEL["mesh"]), "train": asdict(Settings())}


def settings(section: Mapping[str, Any]) -> Settings:
    """`config.train` -> Settings; an unknown key or a value out of range is a UserError that names it."""
    if not isinstance(section, Mapping):
        raise UserError(f"The config's 'train' is {section!r}; it must be a section with keys of its own.")
    known = {field.name: field.default for field in fields(Settings)}
    for key, value in section.items():
        if key not in known:
            hint = did_you_mean(key, known, "train.{}")
            raise UserError(f"Unknown config key train.{key}.{hint} Known: {', '.join(sorted(known))}.")
        kind, given = type(known[key]), type(value)
        if given is not kind and not (kind is float and given is int):
            raise UserError(f"train.{key} is {value!r}; it must be of type {kind.__name__}, such as {known[key]!r}.")
    chosen = Settings(**section)
    _check(chosen)
    return chosen


def _check(chosen: Settings) -> None:
    """Refuse values no run can use."""
    for key in ("steps", "batch", "accumulate", "log_every", "keep", "skip_limit"):
        if getattr(chosen, key) < 1:
            raise UserError(f"train.{key} must be at least 1, not {getattr(chosen, key)}.")
    for key in ("eval_every", "eval_images", "checkpoint_every", "compile_budget", "spike", "ema_start"):
        if getattr(chosen, key) < 0:
            raise UserError(f"train.{key} must be 0 or more, not {getattr(chosen, key)}.")
    if not 0 <= chosen.ema < 1:
        raise UserError(f"train.ema must be 0 (off) or a decay below 1, not {chosen.ema}.")
    if chosen.batch % chosen.accumulate:
        raise UserError(f"train.accumulate={chosen.accumulate} does not divide train.batch={chosen.batch}; choose a divisor.")
    profiled_steps(chosen.profile)


def profiled_steps(text: str) -> range:
    """"10:15" -> range(10, 15); "" -> an empty range."""
    if not text:
        return range(0)
    first, colon, last = text.partition(":")
    if not (colon and first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise UserError(f"train.profile must look like '10:15' (first step, step after the last), not {text!r}.")
    return range(int(first), int(last))

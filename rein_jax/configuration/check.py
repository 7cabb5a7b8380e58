"""What a config may hold: unknown keys, and values that no part can take, are refused before anything is read or compiled.

The sections whose keys are options of a class (adapter, head, loss, augment, backbone.options) are checked against the annotations of
its constructor (`option`), the others against the tables here; `config.train` has its own (`training/settings.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from data_pipelines.protocols import protocol
from rein_jax import registry
from rein_jax.configuration.objects import is_stated
from rein_jax.errors import UserError
from rein_jax.kinds import FLAG, NOTHING, TEXT, Kind, either, is_number, number, several, whole

SECTION = Kind("a section with keys of its own", lambda v: isinstance(v, Mapping) or hasattr(v, "items"))
ENTRIES = Kind("a list of data sets, such as [{'name': 'streets'}]",
               lambda v: isinstance(v, list | tuple) and all(SECTION.fits(entry) or hasattr(entry, "__getitem__") and
                                                             not isinstance(entry, str | list | tuple) for entry in v))
PART = either(TEXT, Kind("a class", lambda v: isinstance(v, type) or is_stated(v)))  # a registered name, or the class, which files state
LOSS = either(TEXT, Kind("a class or function", lambda v: callable(v) or is_stated(v)))
SIZE = either(whole(1), several(whole(1), 2))
SHARE = number(0, 1)

TOP: dict[str, Kind] = {
    "name": TEXT, "seed": whole(0, 2**32 - 1), "precision": TEXT, "mesh": SECTION, "sharding": TEXT, "trainable": several(TEXT),
    "init_from": TEXT, **dict.fromkeys(("backbone", "adapter", "head", "loss", "augment", "data", "eval", "optim", "train"), SECTION),
}
SECTIONS: dict[str, dict[str, Kind]] = {
    "backbone": {"name": PART, "weights": TEXT, "image_size": SIZE, "out_indices": several(whole(0)), "remat": TEXT, "unroll": FLAG,
                 "options": SECTION},
    "data": {"root": TEXT, "train": ENTRIES, "weights": several(number(0)), "crop": several(whole(1), 2), "resize": TEXT,
             "photometric": FLAG, "flip": SHARE, "cat_max_ratio": SHARE, "cache": TEXT, "threads": whole(1), "workers": whole(0)},
    "eval": {"domains": ENTRIES, "protocol": TEXT, "mode": Kind("slide or whole", lambda v: v in ("slide", "whole")), "crop": SIZE,
             "stride": SIZE, "batch": whole(1)},
    "optim": {"name": either(TEXT, Kind("an optax.GradientTransformation", lambda v: hasattr(v, "init") and hasattr(v, "update"))),
              "schedule": either(TEXT, NOTHING), "power": number(0), "momentum": either(number(0), NOTHING),
              "betas": either(several(Kind("at least 0 and below 1", lambda v: is_number(v) and 0 <= v < 1), 2), NOTHING),
              "clip": either(number(0), NOTHING), "decay_end": either(number(0), NOTHING), "warmup_factor": SHARE,
              "warmup_steps": whole(0), "backbone_warmup": whole(0),
              "steps": whole(0), "eps": either(number(0), NOTHING),
              "groups": either(TEXT, NOTHING, Kind("rows (pattern, decay, lr, optional)", lambda v: isinstance(v, list | tuple))),
              **dict.fromkeys(("lr", "weight_decay", "lr_end", "backbone_lr", "adapter_lr", "layer_decay"), number(0))},
}


NEEDED = tuple(key for key, kind in TOP.items() if kind is SECTION and key not in ("mesh", "augment"))


def check(config: Any) -> None:
    """Refuse a config with a key that nothing reads, or a value of another kind, in one sentence."""
    for name in NEEDED:
        if name not in config:
            raise UserError(f"The config has no section {name!r}; restore it, or name the config file the run began with.")
    _section("", config, TOP)
    for name, kinds in SECTIONS.items():
        if name in config:
            _section(f"{name}.", config[name], kinds)
    for name, kind in (("adapter", PART), ("head", PART), ("augment", PART), ("loss", LOSS)):
        if name in config:
            refuse(f"config.{name}.name", config[name].get("name"), kind)
    from rein_jax.optim import OPTIMIZERS, SHAPES  # with optax, for which nothing else here waits

    for key, known in (("name", OPTIMIZERS), ("schedule", SHAPES)):
        if isinstance(config.optim.get(key), str) and config.optim[key] not in known:
            raise registry.unknown(config.optim[key], known, f"optim.{key}")
    if "protocol" in config.get("eval", {}):
        protocol(config.eval.protocol.replace("_", "-"))


def _section(prefix: str, section: Any, kinds: Mapping[str, Kind]) -> None:
    for key, value in section.items():
        if key not in kinds:
            raise registry.unknown(f"config.{prefix}{key}", [f"config.{prefix}{known}" for known in kinds], "config key")
        refuse(f"config.{prefix}{key}", value, kinds[key])


def refuse(where: str, value: Any, kind: Kind) -> None:
    """A UserError that names the key unless the value is of the kind."""
    if not kind.fits(value):
        shown = dict(value) if hasattr(value, "items") else value
        raise UserError(f"{where} is {shown!r}; it must be {kind.words}.")


ZERO = ("ignore", "start")  # whole-number options that may be 0: a label, a block


def option(where: str, value: Any, annotation: Any) -> None:
    """Refuse a value for an argument that is annotated as something else; annotations that are not understood pass."""
    kinds = [_annotated(part.strip(), whole(0 if where.rpartition(".")[2] in ZERO else 1)) for part in str(annotation).split(" | ")]
    if all(kinds):
        refuse(where, value, either(*kinds))


def _annotated(text: str, counted: Kind) -> Kind | None:
    """The kind that an annotation stands for: "float", "tuple[int, ...]", ..."""
    plain = {"int": counted, "float": number(), "bool": FLAG, "str": TEXT, "None": NOTHING}
    if text in plain:
        return plain[text]
    listed = re.fullmatch(r"(?:tuple|Sequence)\[(\w+)((?:, \w+)*)(, \.\.\.)?\]", text)
    if not listed or listed[1] not in plain:
        return None
    of = whole(0) if listed[1] == "int" else plain[listed[1]]
    many = several(of, 1 + listed[2].count(",") if listed[2] else None)
    return either(many, TEXT) if listed[1] == "str" else many  # a text stands for one of them, or for several with commas


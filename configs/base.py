"""What every experiment starts from: all sections with their defaults, and the switch between methods.

    config = base.default()
    base.set_method(config, "rein")          # or full, freeze, lora, ...

Sections: backbone, adapter, head, loss, augment, trainable, data, eval, optim, and the trainer's own (`train`, `seed`, `precision`, `mesh`,
`sharding`; see rein_jax/training/settings.py).
"""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from rein_jax.training.settings import defaults

# method -> (adapter, trees that train). Optimizer groups follow the published recipes where there is one.
METHODS: dict[str, dict[str, Any]] = {
    "rein": {"adapter": {"name": "rein"}, "trainable": ("adapters/", "head/"), "groups": "rein_512"},
    "freeze": {"adapter": {"name": "none"}, "trainable": ("head/",), "groups": "frozen_512"},
    "full": {"adapter": {"name": "none"}, "trainable": ("backbone/", "head/"), "groups": "full_512"},
    "lora": {"adapter": {"name": "lora"}, "trainable": ("adapters/", "head/"), "groups": "frozen_512"},
    "adaptformer": {"adapter": {"name": "adaptformer"}, "trainable": ("adapters/", "head/"), "groups": "frozen_512"},
    "vpt": {"adapter": {"name": "vpt"}, "trainable": ("adapters/", "head/"), "groups": "frozen_512"},
    "bitfit": {"adapter": {"name": "none"}, "trainable": ("backbone/.*bias$", "head/"), "groups": "frozen_512"},
    "soma": {"adapter": {"name": "soma"}, "trainable": (r"adapters/\d+/layers/.*_(a|b|bias)$", "head/"), "groups": "soma"},
}


def default() -> ConfigDict:
    """A new config with every section and its defaults."""
    config = ConfigDict({
        "name": "unnamed",  # shown in reports
        "backbone": {
            "name": "dinov2_vits14",  # a key of rein_jax.backbones.BACKBONES
            "weights": "auto",  # "auto" = fetch the published file by name; a path; or "random"
            "image_size": 512,  # input side for which the position embedding is stored
            "taps": (),  # the four blocks whose outputs are used; () = the family's default
            "remat": "none",  # recompute activations in the backward pass: none, dots, full
            "unroll": False,  # a Python loop instead of lax.scan over blocks (debugging)
            "options": {},  # further options of the backbone's class
        },
        "adapter": {"name": "rein"},  # a key of rein_jax.adapters.ADAPTERS or "none", and that class's options
        "head": {"name": "semantic_fpn"},  # a key of rein_jax.heads.HEADS and that class's options
        "loss": {"name": "pixel"},  # a key of rein_jax.losses.LOSSES and that class's options
        "augment": {"name": "none"},  # a key of rein_jax.augment.AUGMENTS or "none", and that class's options
        "trainable": ("adapters/", "head/"),  # regular expressions on parameter names
        "init_from": "",  # a run folder or model.safetensors whose trainable leaves this run starts from
        "data": {
            "root": "",  # folder of the data sets by name; "" = each entry's own source, then $REIN_DATA
            "train": [{"name": "streets", "split": "train"}],  # sources: name, split, source, and the data set's options
            "weights": (),  # shares of the sources in the mixture; () = plain concatenation
            "crop": (512, 512),  # height, width
            "resize": "official",  # the 16 scales 0.5 ... 2; "none"; or "LOW:HIGH", short edges in pixels
            "photometric": True,
            "flip": 0.5,
            "cat_max_ratio": 0.75,
            "threads": 8,
            "workers": 0,  # worker processes; 0 = threads only
        },
        "eval": {
            "domains": [],  # like data.train
            "protocol": "full",  # resolution: official_512, official_1024, full
            "mode": "slide",  # or "whole"
            "crop": 512,
            "stride": 341,
            "batch": 4,  # windows at once
        },
        "optim": {"lr": 1e-4, "weight_decay": 0.05, "groups": "rein_512", "warmup_steps": 0, "steps": 0},  # steps 0 = train.steps
    })  # fmt: skip
    config.update(ConfigDict(defaults()))
    return config


def set_method(config: ConfigDict, method: str, **options) -> ConfigDict:
    """Switch the method: its adapter (with options), what trains, and the optimizer's groups."""
    from rein_jax.registry import unknown

    if method not in METHODS:
        raise unknown(method, METHODS, "method")
    chosen = METHODS[method]
    config.adapter = ConfigDict({**chosen["adapter"], **options})
    config.trainable = chosen["trainable"]
    config.optim.groups = chosen["groups"]
    return config


def parse(arg: str | None, **known: str) -> dict[str, str]:
    """Arguments after the colon of `--config=file.py:key=value,...`, over their defaults; an unknown key is a UserError."""
    from rein_jax.errors import UserError
    from rein_jax.registry import unknown

    out = dict(known)
    for item in filter(None, (arg or "").split(",")):
        key, sep, value = item.partition("=")
        if key not in known:
            raise unknown(key, known, "config argument")
        if not sep:
            raise UserError(f"The config argument {item!r} needs a value: {key}=...")
        out[key] = value
    return out

"""What every experiment starts from: all sections of a config with their defaults.

Sections: backbone, adapter, head, loss, augment, trainable, data, eval, optim, and the trainer's own (`train`, `seed`, `precision`, `mesh`,
`sharding`; see `rein_jax/configuration/training.py`).
"""

from __future__ import annotations

from ml_collections import ConfigDict

from rein_jax.configuration.training import defaults


def default() -> ConfigDict:
    """A new config with every section and its defaults."""
    config = ConfigDict({
        "name": "unnamed",  # shown in reports
        "backbone": {
            "name": "dinov2_vits14",  # a key of rein_jax.backbones.BACKBONES
            "weights": "auto",  # "auto" = fetch the published file by name; a path; or "random"
            "image_size": 512,  # input side for which the position embedding is stored
            "out_indices": (),  # the four blocks whose outputs are used; () = the family's default
            "remat": "none",  # recompute activations in the backward pass: none, dots, full
            "unroll": False,  # block after block instead of lax.scan: faster on a GPU, for more memory and a longer compilation
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
            "resize": "official",  # 16 scales 0.5 ... 2; "none"; "256:512", short edges; "2048x1024:0.5:2", a box times a factor
            "photometric": True,
            "flip": 0.5,
            "cat_max_ratio": 0.75,
            "cache": "",  # folder for decoded copies of the sources; "" = decode every time
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
        # Also optim.name: adamw (the default: torch's, exact), adam, lion, muon, sgd, lamb; optim.schedule: poly (the default), linear,
        # cosine, constant; betas, eps, momentum (None: the optimizer's usual ones), power, clip, ...: rein_jax.optim.OptimConfig.
        "optim": {"lr": 1e-4, "weight_decay": 0.05, "groups": "rein_512", "warmup_steps": 0, "steps": 0,  # steps 0 = train.steps
                  "backbone_lr": 1.0, "adapter_lr": 1.0,  # factors on the learning rate of what trains under backbone/ and adapters/
                  "layer_decay": 1.0, "backbone_warmup": 0},  # a factor from block to block of the backbone; its own warm-up (EoMT)
    })  # fmt: skip
    config.update(ConfigDict(defaults()))
    return config

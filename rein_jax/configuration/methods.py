"""The switches of a config: method, backbone, head and augmentation, each by its name.

    config = default()
    set_backbone(config, "dinov2_s", 512)
    set_method(config, "rein")          # or full, freeze, lora, ...
    set_head(config, "mask2former")
"""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from rein_jax.augment import AUGMENTS
from rein_jax.backbones import BACKBONES as REGISTERED
from rein_jax.errors import UserError
from rein_jax.losses import LOSS_OF
from rein_jax.registry import unknown

# method -> (adapter, trees that train). Optimizer groups follow the published recipes where there is one.
METHODS: dict[str, dict[str, Any]] = {
    "rein": {"adapter": {"name": "rein"}, "trainable": ("adapters/", "head/"), "groups": "rein_512"},
    "freeze": {"adapter": {"name": "none"}, "trainable": ("head/",), "groups": "frozen_512"},
    "full": {"adapter": {"name": "none"}, "trainable": ("backbone/", "head/"), "groups": "full_512"},
    "lora": {"adapter": {"name": "lora"}, "trainable": ("adapters/", "head/"), "groups": "frozen_512"},
    "adaptformer": {"adapter": {"name": "adaptformer"}, "trainable": ("adapters/", "head/"), "groups": "frozen_512"},
    "vpt": {"adapter": {"name": "vpt"}, "trainable": ("adapters/", "head/"), "groups": "frozen_512"},
    "bitfit": {"adapter": {"name": "none"}, "trainable": ("backbone/.*bias$", "head/"), "groups": "frozen_512"},
    "recyclelora": {"adapter": {"name": "recyclelora"}, "trainable": ("adapters/", "head/"), "groups": "recyclelora"},
    "soma": {"adapter": {"name": "soma"}, "trainable": (r"adapters/\d+/layers/.*_(a|b|bias)$", "head/"), "groups": "soma"},
}


# Short names of the backbones; every key of rein_jax.backbones.BACKBONES is understood too.
BACKBONES = {
    "dinov2_s": "dinov2_vits14", "dinov2_b": "dinov2_vitb14", "dinov2_l": "dinov2_vitl14", "dinov2_g": "dinov2_vitg14",
    "dinov3_s": "dinov3_vits16", "dinov3_splus": "dinov3_vits16plus", "dinov3_b": "dinov3_vitb16", "dinov3_l": "dinov3_vitl16",
    "dinov3_hplus": "dinov3_vith16plus",
    "eva02_s": "eva02_s", "eva02_b": "eva02_b", "eva02_l": "eva02_l", "clip_b": "clip_vitb16", "clip_l": "clip_vitl14",
    "mae_b": "mae_b", "mae_l": "mae_l", "sam_b": "sam_b", "sam_l": "sam_l", "sam_h": "sam_h",
    "resnet50": "resnet_50", "resnet101": "resnet_101", "convnext_l": "convnext_l",
}  # fmt: skip


def set_method(config: ConfigDict, method: str, **options) -> ConfigDict:
    """Switch the method: its adapter (with options), what trains, and the optimizer's groups."""
    if method not in METHODS:
        raise unknown(method, METHODS, "method")
    chosen = METHODS[method]
    config.adapter = ConfigDict({**chosen["adapter"], **options})
    config.trainable = chosen["trainable"]
    config.optim.groups = chosen["groups"]
    return config


def set_backbone(config: ConfigDict, backbone: str, image_size: int) -> ConfigDict:
    """Choose the backbone by a short name ("dinov2_l") or its registered one, and the input side its positions are stored for."""
    if backbone not in BACKBONES and backbone not in REGISTERED:
        raise unknown(backbone, {**BACKBONES, **REGISTERED}, "backbone")
    config.backbone.name, config.backbone.image_size = BACKBONES.get(backbone, backbone), image_size
    return config


def set_head(config: ConfigDict, head: str, **options) -> ConfigDict:
    """Choose the decode head with its loss; after `set_backbone` and `set_method`, on which a Mask2Former's queries depend.

    Queries are Rein's tokens where Rein links them; with CLIP and SAM the initial features of the queries stay learned, as in their
    official configs; without Rein both are learned.
    """
    if head not in LOSS_OF:
        raise unknown(head, LOSS_OF, "decode head")
    family, adapter = config.backbone.name.split("_")[0], config.adapter
    if head == "mask2former":
        linked = adapter.name == "rein" and adapter.get("link", True)
        source = ("learned_feat" if family in ("clip", "sam") else "linked") if linked else "learned"
        options = {"query_source": source, **options}
        if source == "learned_feat":
            options["num_queries"] = adapter.get("num_tokens", 100)
    elif head == "eomt":
        if family in ("sam", "resnet", "convnext"):
            raise UserError(f"head=eomt works within the blocks of a plain ViT, not of {config.backbone.name}; "
                            "choose another backbone or head.")
        config.backbone.options.final_norm = True
        if adapter.name == "rein":
            adapter.link = False
    elif head == "semantic_fpn" and family == "resnet":
        options = {"strides": (4, 8, 8, 8), **options}
    config.head, config.loss = ConfigDict({"name": head, **options}), ConfigDict({"name": LOSS_OF[head]})
    return config


def small_head(config: ConfigDict, head: str) -> ConfigDict:
    """A head that trains in minutes on a CPU, for a ViT-S on small crops, and its learning rate.

    Mask2Former at width 64 with 1 + 3 layers, 40 queries and 1,024 points. With Rein its linked queries start spread out: the original's
    start almost equal to one another and separate late, which a short run does not survive (see benchmarks/generalisation/RESULTS.md).
    EoMT with 40 queries and 1,024 points.
    """
    if head == "mask2former":
        narrow = {"channels": 64, "encoder_layers": 1, "decoder_layers": 3, "encoder_ffn": 128, "decoder_ffn": 256, "num_queries": 40}
        if config.adapter.name == "rein":
            config.adapter.num_tokens, config.adapter.query_dims, config.adapter.query_init = 40, 64, "spread"
        set_head(config, head, **narrow)
        config.loss.points = 1024
        config.optim.lr = 1e-3
        return config
    config.optim.lr = 1e-3
    if head == "eomt":
        set_head(config, head, num_queries=40)
        config.loss.points = 1024
        return config
    return set_head(config, head, **({"channels": 64, "head_channels": 64} if head == "semantic_fpn" else {}))


def set_augment(config: ConfigDict, augment: str, **options) -> ConfigDict:
    """Choose the on-device augmentation: none, advstyle, pasta or gtr_ltr."""
    if augment != "none" and augment not in AUGMENTS:
        raise unknown(augment, [*AUGMENTS, "none"], "augmentation")
    config.augment = ConfigDict({"name": augment, **options})
    return config

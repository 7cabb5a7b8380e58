"""The published training recipes (Rein, CVPR 2024), as functions that the families of experiments share.

`MODEL` are the arguments every family takes:
    backbone  dinov2_l, eva02_l, clip_l, mae_l, sam_h, resnet50, resnet101, convnext_l, dinov2_s, dinov3_l, ... (BACKBONES)
    method    rein, full, freeze, lora, adaptformer, vpt, bitfit, soma, recyclelora
    augment   none, advstyle, pasta, gtr_ltr
    head      mask2former, semantic_fpn, linear, eomt (plain ViTs)
    tokens, rank, shared, link   Rein's ablations: number of tokens (100), rank of the tokens (16; none = whole tokens), one set of
              linear maps for all layers or one per layer, tokens linked to the head's queries or not; rank is LoRA's and SoMA's too
    neck      auto, none, multilevel (two trained convolutions a map; auto = for frozen CLIP, as the official config), fpn (Rein-CLIP's
              trained rescaling in the later official release; 12.6M parameters more than the paper counts)
"""

from __future__ import annotations

from ml_collections import ConfigDict

from rein_jax.configuration import default, set_augment, set_backbone, set_head, set_method, title
from rein_jax.errors import UserError
from rein_jax.registry import unknown

MODEL = {
    "backbone": "dinov2_l", "method": "rein", "augment": "none", "head": "mask2former", "tokens": "", "rank": "", "shared": "", "link": "",
    "neck": "auto",
}  # fmt: skip
RANKED = ("rein", "lora", "soma")
NECKS = ("auto", "none", "multilevel", "fpn")


def build(family: str, args: dict[str, str], defaults: dict[str, str], *, crop: int) -> ConfigDict:
    """A config with the model of the arguments and the published recipe for crops of 512 or 1024 pixels; data are the family's."""
    config = default()
    config.name = title(family, args, defaults, "backbone", "method")
    model(config, args, crop)
    published(config, crop)
    set_augment(config, args["augment"])
    if args["head"] == "eomt" and args["method"] == "full":
        eomt(config)
    if args["method"] == "soma":
        soma(config)
    if args["method"] == "recyclelora":  # its own recipe: weight decay annealed along a cosine (of the head: factors do not decay)
        config.optim.lr, config.optim.decay_end = 1e-4, 1e-5
    return config


def soma(config: ConfigDict) -> None:
    """SoMA's own recipe where it differs: 1e-4 for every crop, weight decay annealed along a cosine, and a moving average, evaluated, that
    begins after 12k of its 40k steps (three tenths). Families whose recipe differs once more say so."""
    config.optim.lr, config.optim.decay_end = 1e-4, 1e-5
    config.train.ema, config.train.ema_start = 0.9998, config.train.steps * 3 // 10


def eomt(config: ConfigDict) -> None:
    """EoMT's own optimizer (CVPR 2025): 1e-4 that falls by 0.8 from block to block, the backbone waiting for the head's warm-up of 500
    iterations before 1,000 of its own, everything decays, gradients clipped to a norm of 0.01."""
    config.optim.lr, config.optim.groups, config.optim.layer_decay, config.optim.clip = 1e-4, "eomt", 0.8, 0.01
    config.optim.warmup_steps, config.optim.backbone_warmup = 500, 1000


def model(config: ConfigDict, args: dict[str, str], image_size: int) -> None:
    """Backbone, method and head of the arguments."""
    set_backbone(config, args["backbone"], image_size)
    family = config.backbone.name.split("_")[0]
    set_method(config, args["method"], **adapter_options(args, family))
    neck = neck_of(args, family)
    if neck == "fpn":
        config.backbone.options = ConfigDict({"fpn": True})
        config.trainable = (*config.trainable, "backbone/fpn/")
    set_head(config, args["head"], **({"neck": True} if neck == "multilevel" else {}))
    if args["method"] == "rein" and family in ("resnet", "convnext"):
        config.optim.groups = "rein_cnn"


def adapter_options(args: dict[str, str], family: str) -> dict:
    """Options of the adapter; an argument that the method does not know is a UserError."""
    method, options = args["method"], {}
    for key in ("tokens", "shared", "link"):
        if args[key] and method != "rein":
            raise UserError(f"The config argument {key}={args[key]} belongs to method=rein, not to method={method}; leave it out.")
    if args["rank"] and method not in RANKED:
        raise UserError(f"The config argument rank={args['rank']} belongs to {', '.join(RANKED)}, not to method={method}; leave it out.")
    if args["tokens"]:
        options["num_tokens"] = whole(args, "tokens")
    if args["rank"]:
        options["rank"] = None if args["rank"] == "none" and method == "rein" else whole(args, "rank")
    for key in ("shared", "link"):
        if args[key]:
            options[key] = truth(args, key)
    if method == "rein" and args["head"] != "mask2former":
        if options.get("link"):
            raise UserError(f"link=true needs head=mask2former; {args['head']} has no object queries.")
        options["link"] = False
    if method == "rein" and family == "eva02":
        options["init"] = "eva02"
    return options


def neck_of(args: dict[str, str], family: str) -> str:
    """The neck that the arguments mean, "none" included."""
    neck = args["neck"]
    if neck not in NECKS:
        raise unknown(neck, NECKS, "value of the config argument neck")
    if neck == "auto":
        return "multilevel" if (family, args["method"], args["head"]) == ("clip", "freeze", "mask2former") else "none"
    if neck == "fpn" and family != "clip":
        raise UserError(f"neck=fpn belongs to CLIP backbones, not to {args['backbone']}; leave it out.")
    if neck == "multilevel" and args["head"] != "mask2former":
        raise UserError(f"neck=multilevel goes with head=mask2former, not with {args['head']}; leave it out.")
    return neck


def published(config: ConfigDict, crop: int) -> None:
    """Optimizer, schedule, crops, resizing and sliding window of the official configs for this crop: 40k iterations, the last one counts.

    512: AdamW 1e-4, batch 4, windows of 512 every 341. 1024: 6e-5 with 10k iterations of warm-up, batch 8, windows of 1024 every 683.
    """
    config.data.crop, config.data.resize = (crop, crop), "official"
    config.eval.mode, config.eval.crop, config.eval.batch = "slide", crop, 1
    config.train.steps, config.train.checkpoint_every, config.train.eval_every = 40_000, 4_000, 10_000
    if crop == 512:
        config.optim.lr, config.train.batch = 1e-4, 4
        config.eval.protocol, config.eval.stride = "official_512", 341
    else:
        config.optim.lr, config.optim.warmup_steps, config.train.batch = 6e-5, 10_000, 8
        config.eval.protocol, config.eval.stride = "official_1024", 683
        if config.optim.groups == "rein_512":
            config.optim.groups = "rein_1024"


def domains(config: ConfigDict, *names: str, **options) -> None:
    """Evaluate on the validation sets of these data sets."""
    config.eval.domains = [{"name": name, "split": "val", **options} for name in names]


def whole(args: dict[str, str], key: str) -> int:
    """An argument as a whole number."""
    if not args[key].isdigit():
        raise UserError(f"The config argument {key} needs a whole number, not {args[key]!r}.")
    return int(args[key])


def truth(args: dict[str, str], key: str) -> bool:
    """An argument as true or false."""
    if args[key] not in ("true", "false"):
        raise UserError(f"The config argument {key} needs true or false, not {args[key]!r}.")
    return args[key] == "true"

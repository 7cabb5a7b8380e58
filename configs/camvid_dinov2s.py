"""CamVid by day, tested by day and at dusk: Rein on a frozen, real DINOv2-S.

    rein train --config configs/camvid_dinov2s.py --config.data.root=/data --workdir runs/camvid

/data/camvid holds train/, trainannot/, test/, ... of the SegNet form.
"""

from rein_jax.configuration import default, parse, set_augment, set_method, small_head, title

ARGS = {"method": "rein", "augment": "none", "head": "mask2former"}


def get_config(arg=None):
    """Arguments: method (rein, freeze, full, ...), augment (none, advstyle, pasta, gtr_ltr), head (semantic_fpn, mask2former, linear)."""
    args = parse(arg, **ARGS)
    config = default()
    config.name = title("camvid", args, ARGS, "method")
    config.backbone.name, config.backbone.image_size = "dinov2_vits14", 256
    set_method(config, args["method"])
    small_head(config, args["head"])
    set_augment(config, args["augment"])
    config.data.train = [{"name": "camvid", "split": "day_train"}]
    config.data.crop, config.data.resize = (192, 192), "192:384"
    config.eval.domains = [{"name": "camvid", "split": "day_test"}, {"name": "camvid", "split": "dusk"}]
    config.eval.mode = "whole"
    config.train.steps, config.train.batch, config.train.checkpoint_every = 300, 4, 100
    return config

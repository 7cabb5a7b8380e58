"""Quick start: Rein on a frozen, real DINOv2-S, trained on clear synthetic streets, tested on weather and a city it never saw.

    rein train --config configs/quickstart.py --workdir runs/quickstart
    rein train --config configs/quickstart.py:method=freeze --workdir runs/quickstart_freeze
"""

from rein_jax.configuration import default, parse, set_augment, set_method, small_head, title

STYLES = ("clear", "night", "fog", "rain", "snow", "city")

ARGS = {"method": "rein", "augment": "none", "head": "mask2former"}


def get_config(arg=None):
    """Arguments: method (rein, freeze, full, ...), augment (none, advstyle, pasta, gtr_ltr), head (semantic_fpn, mask2former, linear)."""
    args = parse(arg, **ARGS)
    config = default()
    config.name = title("quickstart", args, ARGS, "method")
    config.backbone.name, config.backbone.image_size = "dinov2_vits14", 256
    set_method(config, args["method"])
    small_head(config, args["head"])
    set_augment(config, args["augment"])
    config.data.train = [{"name": "streets", "style": "clear", "split": "train"}]
    config.data.crop, config.data.resize = (192, 192), "160:384"
    config.data.workers = 2  # drawing streets is Python's work, which threads do in turn
    config.eval.domains = [{"name": "streets", "style": style, "split": "val", "length": 12} for style in STYLES]
    config.eval.crop, config.eval.stride = 256, 192
    config.train.steps, config.train.batch, config.train.checkpoint_every = 150, 4, 30
    return config

"""Cityscapes -> ACDC (table 3 of Rein, CVPR 2024): crops of 1024, 40k iterations with 10k of warm-up, batch 8.

    rein train --config configs/citys_to_acdc.py --config.data.root=/data --workdir runs/citys_to_acdc

/data holds cityscapes/ and acdc/. Published on ACDC's test set (benchmark server; `rein submit` makes the zip), Rein on DINOv2-L:
night 70.6, snow 79.5, fog 76.4, rain 78.2, all 77.0 mIoU. The run itself measures on ACDC's validation set, by condition.
crop=512 is the official 512 variant. All arguments: configs/_recipes.py.
"""

from configs import _recipes
from rein_jax.configuration import parse
from rein_jax.errors import UserError

ARGS = {**_recipes.MODEL, "crop": "1024"}


def get_config(arg=None):
    """Arguments: crop (1024, 512) and those of configs/_recipes.py."""
    args = parse(arg, **ARGS)
    if args["crop"] not in ("512", "1024"):
        raise UserError(f"The config argument crop is {args['crop']}; the published recipes are for 1024 and 512.")
    config = _recipes.build("citys-to-acdc", args, ARGS, crop=int(args["crop"]))
    if args["method"] == "soma":
        config.train.ema_start = 20_000
    config.data.train = [{"name": "cityscapes", "split": "train"}]
    _recipes.domains(config, "acdc")
    return config

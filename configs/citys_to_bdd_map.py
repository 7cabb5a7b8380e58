"""Cityscapes -> BDD100K, Mapillary (table 7 of Rein, CVPR 2024): crops of 512, 40k iterations, batch 4.

    rein train --config configs/citys_to_bdd_map.py:backbone=eva02_l,method=freeze --config.data.root=/data --workdir runs/x

/data holds cityscapes/, bdd100k/, mapillary/. Published mIoU (BDD / Map, average): backbone=dinov2_l method=rein 65.0 / 72.3, 68.7,
method=freeze 63.4 / 69.7, 66.7; backbone=eva02_l method=rein 64.1 / 69.5, 66.8, method=freeze 57.8 / 63.8, 60.8. The official
config of this table was not released; this is the 512 recipe of the other tables. method=soma has its own batch of 8 and warm-up,
method=recyclelora a smaller sub factor. All arguments: configs/_recipes.py.
"""

from configs import _recipes
from rein_jax.configuration import parse

ARGS = {**_recipes.MODEL}


def get_config(arg=None):
    """Arguments: configs/_recipes.py."""
    args = parse(arg, **ARGS)
    config = _recipes.build("citys-to-bdd-map", args, ARGS, crop=512)
    if args["method"] == "soma":
        config.train.batch, config.train.ema_start = 8, 20_000
        config.optim.warmup_steps, config.optim.warmup_factor = 1_500, 1e-2
    if args["method"] == "recyclelora":
        config.adapter.sub = 2
    config.data.train = [{"name": "cityscapes", "split": "train"}]
    _recipes.domains(config, "bdd100k", "mapillary")
    return config

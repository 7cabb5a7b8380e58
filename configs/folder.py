"""Your own data: a folder with images/, masks/ and names.txt (one class per line), Rein + Mask2Former on a frozen DINOv2-S.

    rein data check folder --source mydata
    rein train --config configs/folder.py:source=mydata --workdir runs/mine
    rein train --config configs/folder.py:source=mydata,values=7+8:road/26:car/rest:ignore --workdir runs/mine
    rein predict runs/mine mydata/images --out predictions
"""

from rein_jax.configuration import default, parse, set_method, small_head, title
from rein_jax.errors import UserError

DATA = ("source", "images", "masks", "classes", "values", "ignore", "encoding", "exif", "policy")  # of `rein data list folder`
ARGS = {"source": "", "method": "rein", "backbone": "dinov2_vits14", "crop": "256", **dict.fromkeys(DATA[1:], "")}


def get_config(arg=None):
    """Arguments: source (the folder; a tenth of it is kept for validation), method, backbone, crop (side in pixels, a multiple of 16).

    Those of the data set (images, masks, classes, values, ignore, encoding, exif, policy) are explained by `rein data list folder`.
    """
    args = parse(arg, **ARGS)
    if not args["crop"].isdecimal() or int(args["crop"]) % 16 or args["crop"] == "0":
        raise UserError(f"crop={args['crop']}: give the crop's side in pixels, a multiple of 16.")
    config, crop = default(), int(args["crop"])
    config.name = title("folder", args, ARGS, "method")
    config.backbone.name, config.backbone.image_size = args["backbone"], crop
    eva02 = {"init": "eva02"} if args["method"] == "rein" and args["backbone"].startswith("eva02") else {}
    set_method(config, args["method"], **eva02)
    small_head(config, "mask2former")
    where = {key: args[key] for key in DATA if args[key]}
    config.data.train = [{"name": "folder", "split": "train", **where}]
    config.data.crop, config.data.resize = (crop, crop), f"{crop}:{2 * crop}"
    config.eval.domains = [{"name": "folder", "split": "val", **where}]
    config.eval.crop, config.eval.stride = crop, crop * 2 // 3
    config.train.steps, config.train.batch, config.train.checkpoint_every = 150, 4, 50
    return config

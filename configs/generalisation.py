"""Evidence on data that can be had anywhere: which way of tuning a frozen DINOv2-S holds up where it was not trained.

    rein sweep configs/generalisation.py:task=streets --grid method=freeze,full,rein --grid seed=0,1,2 --workdir runs/streets
    rein sweep configs/generalisation.py:task=camvid --grid method=freeze,rein --config.data.root=/data --workdir runs/cam

The protocol and its results: benchmarks/generalisation/. Tasks: `streets` trains on clear synthetic streets and tests on weather and a
city never seen, `camvid` on CamVid by day and tests by day and at dusk, `transfer` trains as `streets` and tests on all of CamVid too.
"""

from configs.quickstart import STYLES
from data_pipelines.streets.source import EDITIONS
from rein_jax.configuration import default, parse, set_augment, set_method, small_head, title
from rein_jax.errors import UserError
from rein_jax.registry import unknown

ARGS = {"task": "streets", "method": "rein", "augment": "none", "head": "mask2former", "queries": "spread", "backbone_lr": "0.1",
        "adapter_lr": "1", "edition": "2", "part": "all", "share": "1"}
STREETS = [{"name": "streets", "style": "clear", "split": "train"}]
STREETS_TESTED = [{"name": "streets", "style": style, "split": "val", "length": 8} for style in STYLES]
TASKS = {
    "streets": (STREETS, STREETS_TESTED),
    "camvid": ([{"name": "camvid", "split": "day_train"}], [{"name": "camvid", "split": "day_test"}, {"name": "camvid", "split": "dusk"}]),
    "transfer": (STREETS, [*STREETS_TESTED, {"name": "camvid", "split": "all"}]),
}
# How the queries of a linked Mask2Former begin: (head.query_source, adapter.query_init).
QUERIES = {"spread": ("linked", "spread"), "official": ("linked", "torch"), "learned": ("learned_feat", "torch")}
# What `full` may be limited to, to see where its gain comes from: patterns of what trains in the backbone.
PARTS = {"all": "", "embed": "(patch_embed|pos_embed|cls_token)",
         "attention": "blocks/attn/", "mlp": "blocks/mlp/", "norms": "blocks/(norm|ls)"}


def get_config(arg=None):
    """Arguments: task, method, augment, head; queries, for Rein: spread (ours), official, or learned (own initial features);
    backbone_lr, for full: times the head's learning rate (0.1 is the paper's text); adapter_lr, for adapters: the same;
    part, for full: all, embed (patches and positions), attention, mlp, norms (with layer scale); edition: of the streets;
    share, for camvid: of the training images, 1/16 for every sixteenth."""
    args = parse(arg, **ARGS)
    for key, known in (("task", TASKS), ("queries", QUERIES), ("part", PARTS)):
        if args[key] not in known:
            raise unknown(args[key], known, f"value of the config argument {key}")
    config = default()
    config.name = title("generalisation", args, ARGS, "task", "method")
    config.backbone.name, config.backbone.image_size = "dinov2_vits14", 256
    set_method(config, args["method"])
    if args["part"] != "all":
        if args["method"] != "full":
            raise UserError(f"The config argument part={args['part']} belongs to method=full, not to method={args['method']}.")
        config.trainable = ("backbone/" + PARTS[args["part"]], "head/")
    small_head(config, args["head"])
    if args["method"] == "rein" and args["head"] == "mask2former":
        config.head.query_source, config.adapter.query_init = QUERIES[args["queries"]]
    key = "backbone_lr" if args["method"] == "full" else "adapter_lr"
    try:
        config.optim[key] = float(args[key])
    except ValueError:
        raise UserError(f"The config argument {key}={args[key]!r} is not a number.") from None
    set_augment(config, args["augment"])
    known = tuple(map(str, EDITIONS))
    if args["edition"] not in known:
        raise unknown(args["edition"], known, "value of the config argument edition")
    drawn = {"edition": int(args["edition"])}
    config.data.train, config.eval.domains = (
        [{**entry, **drawn} if entry["name"] == "streets" else entry for entry in entries] for entries in TASKS[args["task"]]
    )
    if args["share"] != "1":
        if args["task"] != "camvid":
            raise UserError(f"The config argument share={args['share']} belongs to task=camvid, not to task={args['task']}.")
        config.data.train = [{**entry, "subset": args["share"]} for entry in config.data.train]
    config.data.crop, config.data.resize = (128, 128), "128:320" if args["task"] != "camvid" else "144:320"
    config.data.workers = 2 if args["task"] != "camvid" else 0  # drawing streets is Python's work, which threads do in turn
    config.eval.crop, config.eval.stride = 256, 192
    config.eval.mode = "slide" if args["task"] == "streets" else "whole"
    config.train.steps, config.train.batch, config.train.checkpoint_every = 120, 4, 120
    return config

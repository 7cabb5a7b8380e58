"""GTAV -> Cityscapes, BDD100K, Mapillary (tables 1, 2, 5 and 6 of Rein, CVPR 2024): crops of 512, 40k iterations, batch 4.

    rein train --config configs/gta_to_cbm.py:backbone=eva02_l,method=lora,augment=pasta --config.data.root=/data --workdir runs/x

/data holds gtav/, cityscapes/, bdd100k/, mapillary/. All arguments: configs/_recipes.py. Published mIoU (Citys / BDD / Map, average):

    backbone=dinov2_l   method=rein         66.4 / 60.4 / 66.1, 64.3    2.99M trained in the backbone
                        method=full         63.7 / 57.4 / 64.2, 61.7    304.20M; augment=advstyle 60.4, pasta 61.5, gtr_ltr 61.6
                        method=freeze       63.3 / 56.1 / 63.9, 61.1    0; augment=advstyle 60.1, pasta 61.3, gtr_ltr 60.0
                        method=lora         65.2 / 58.3 / 64.6, 62.7    0.79M
                        method=adaptformer  64.9 / 59.0 / 64.2, 62.7    3.17M
                        method=vpt          65.2 / 59.4 / 65.5, 63.3    3.69M
    backbone=eva02_l    method=rein         65.3 / 60.5 / 64.9, 63.6    2.99M
                        method=full         62.1 / 56.2 / 64.6, 60.9    304.24M; augment=advstyle 61.2, pasta 60.8, gtr_ltr 60.1
                        method=freeze       56.5 / 53.6 / 58.6, 56.2    0; augment=advstyle 53.2, pasta 56.2, gtr_ltr 54.1
                        method=lora         55.5 / 52.7 / 58.3, 55.5    1.18M
                        method=adaptformer  63.7 / 59.9 / 64.2, 62.6    3.17M
                        method=vpt          62.2 / 57.7 / 62.5, 60.8    3.69M
    backbone=sam_h      method=rein         59.6 / 52.0 / 62.1, 57.9    4.51M
                        method=full         57.6 / 51.7 / 61.5, 56.9    632.18M
                        method=freeze       57.0 / 47.1 / 58.4, 54.2    0
    backbone=clip_l     method=rein         57.1 / 54.7 / 60.5, 57.4    2.99M
                        method=full         51.3 / 47.6 / 54.3, 51.1    304.15M
                        method=freeze       53.7 / 48.7 / 55.0, 52.4    0
    backbone=mae_l      method=rein         55.0 / 49.3 / 58.6, 54.3    2.99M
                        method=full         53.7 / 50.8 / 58.1, 54.2    330.94M (ours 304.15M; see experiments/paper.py)
                        method=freeze       43.3 / 37.8 / 48.0, 43.0    0
    backbone=resnet50   method=rein 46.6, full 38.9 (averages)
    backbone=resnet101  method=rein 46.3, full 46.1
    backbone=convnext_l method=rein 55.5, full 52.2

The paper's text gives Full a backbone learning rate of 1e-5, its released config 1e-4; the config's is the default here, the text's is
--config.optim.groups=full_paper. head=semantic_fpn is figure 1's second head. method=soma and method=recyclelora are
SoMA (CVPR 2025) and RecycleLoRA (CVPR 2026 Findings) on the same protocol; their papers test at 2048x1024.
Rein's ablations: tokens=50, rank=none, shared=false, link=false.
"""

from configs import _recipes
from rein_jax.configuration import parse

ARGS = {**_recipes.MODEL}


def get_config(arg=None):
    """Arguments: configs/_recipes.py."""
    args = parse(arg, **ARGS)
    config = _recipes.build("gta-to-cbm", args, ARGS, crop=512)
    config.data.train = [{"name": "gtav", "split": "train"}]
    _recipes.domains(config, "cityscapes", "bdd100k", "mapillary")
    return config

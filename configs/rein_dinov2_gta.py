"""Rein's headline (table 2): DINOv2-L, GTAV -> Cityscapes 66.4, BDD100K 60.4, Mapillary 66.1, average 64.3 mIoU, 2.99M trained.

    rein train --config configs/rein_dinov2_gta.py --config.data.root=/data --workdir runs/rein_dinov2_gta

The same as configs/gta_to_cbm.py without arguments: tokens 100 x rank 16, scale 0.001, maps shared by the layers, tokens linked to the
100 queries of a Mask2Former (256 channels, 6 encoder and 9 decoder layers); AdamW 1e-4, weight decay 0.05, polynomial decay of power
0.9 over 40k iterations, batch 4, crops of 512 at 16 scales; tested in windows of 512 every 341 at the sizes of protocol official-512.
"""

from configs import gta_to_cbm

ARGS = gta_to_cbm.ARGS


def get_config(arg=None):
    """Arguments: configs/_recipes.py."""
    config = gta_to_cbm.get_config(arg)
    config.name = config.name.replace("gta-to-cbm", "rein-dinov2-gta")
    return config

"""SYNTHIA-RAND-CITYSCAPES (Ros et al., CVPR 2016): 9,400 rendered city frames of 1280x760.

Get it: https://synthia-dataset.net/downloads/ (SYNTHIA-RAND-CITYSCAPES, a .rar that must be unpacked). Licence: CC BY-NC-SA
3.0.
Layout: RGB/0000000.png, GT/LABELS/0000000.png. A label is a 16-bit three-channel PNG: class id in red, instance in green.
The official script adds GT/LABELS/0000000_labelTrainIds.png; both kinds are recognised, the prepared one first.
16 of the 19 classes occur (no terrain, truck, train). Only `train` exists.
"""

from __future__ import annotations

from data_pipelines.decoders import IndexLabels, SynthiaLabels
from data_pipelines.labels import SYNTHIA_IDS, TRAIN_IDS
from data_pipelines.layout import FileDataset, Labels, Layout


class Synthia(FileDataset):
    name, title = "synthia", "Synthia RAND-CITYSCAPES"
    splits = ("train",)
    basic = ("train",)
    published = {"train": 9400}
    size = (1280, 760)
    expects = "RGB/0000000.png and GT/LABELS/0000000.png"

    def layouts(self, split, **options):
        prepared = r"GT/LABELS/(?P<key>[^/]*\d)_labelTrainIds\.png"
        labels = (
            Labels("prepared train ids (*_labelTrainIds.png)", prepared, IndexLabels(TRAIN_IDS)),
            Labels("published 16-bit labels", r"GT/LABELS/(?P<key>[^/]*\d)\.png", SynthiaLabels(SYNTHIA_IDS)),
        )
        return (Layout("Synthia folders", r"RGB/(?P<key>[^/]*\d)\.png", labels),)


SYNTHIA = Synthia()

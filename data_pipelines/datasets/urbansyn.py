"""UrbanSyn (Gomez et al., 2023): 7,539 rendered city frames of 2048x1024.

Get it: https://www.urbansyn.org or https://huggingface.co/datasets/UrbanSyn/UrbanSyn. Licence: CC BY-SA 4.0.
Layout: rgb/rgb_0001.png, ss/ss_0001.png. Labels are Cityscapes train ids with **void = 19**, which becomes 255 here.
Labels renamed to rgb_0001.png (as the official configs expect them) or rewritten as *_labelTrainIds.png are recognised too.
Only `train` exists.
"""

from __future__ import annotations

from data_pipelines.decoders import IndexLabels
from data_pipelines.labels import TRAIN_IDS, URBANSYN_IDS
from data_pipelines.layout import FileDataset, Labels, Layout


class UrbanSyn(FileDataset):
    name, title = "urbansyn", "UrbanSyn"
    splits = ("train",)
    basic = ("train",)
    published = {"train": 7539}
    size = (2048, 1024)
    expects = "rgb/rgb_0001.png and ss/ss_0001.png"

    def layouts(self, split, **options):
        prepared = r"ss/(?:ss_|rgb_)?(?P<key>\d+)_labelTrainIds\.png"
        labels = (
            Labels("prepared train ids (*_labelTrainIds.png)", prepared, IndexLabels(TRAIN_IDS)),
            Labels("published labels (ss_*.png, void 19)", r"ss/ss_(?P<key>\d+)\.png", IndexLabels(URBANSYN_IDS)),
            Labels("renamed labels (rgb_*.png, void 19)", r"ss/(?:rgb_)?(?P<key>\d+)\.png", IndexLabels(URBANSYN_IDS)),
        )
        return (Layout("UrbanSyn folders", r"rgb/(?:rgb_)?(?P<key>\d+)\.png", labels),)


URBANSYN = UrbanSyn()

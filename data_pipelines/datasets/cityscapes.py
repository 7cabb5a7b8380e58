"""Cityscapes (Cordts et al., CVPR 2016): 5,000 finely labelled frames of 2048x1024 from 50 cities.

Get it: https://www.cityscapes-dataset.com (leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip; they may stay packed, side
by side in one folder). Licence: research only.
Layout: leftImg8bit/SPLIT/CITY/*_leftImg8bit.png, gtFine/SPLIT/CITY/*_gtFine_labelIds.png; the official scripts add
*_gtFine_labelTrainIds.png. Both kinds are recognised, the prepared one first.
Splits: train 2,975, val 500, test 1,525 (the published test labels are blank, so `test` has none here).
The 1/16 subset, `subset="1/16"`, is every 16th training image in order of path, from the first: 186 images. It is fixed and
reproducible but not the list of any paper, because the original authors did not publish theirs.
"""

from __future__ import annotations

from data_pipelines.decoders import IndexLabels
from data_pipelines.labels import CITYSCAPES_IDS, TRAIN_IDS
from data_pipelines.layout import FileDataset, Labels, Layout


class Cityscapes(FileDataset):
    name, title = "cityscapes", "Cityscapes"
    published = {"train": 2975, "val": 500, "test": 1525}
    size = (2048, 1024)
    expects = "leftImg8bit/SPLIT/CITY/*_leftImg8bit.png and gtFine/SPLIT/CITY/*_gtFine_labelIds.png"

    def layouts(self, split, **options):
        images = rf"leftImg8bit/{split}/(?P<key>[^/]+/[^/]+)_leftImg8bit\.png"
        stem = rf"gtFine/{split}/(?P<key>[^/]+/[^/]+)_gtFine"
        labels = (
            Labels("prepared train ids (*_labelTrainIds.png)", stem + r"_labelTrainIds\.png", IndexLabels(TRAIN_IDS)),
            Labels("published label ids (*_labelIds.png)", stem + r"_labelIds\.png", IndexLabels(CITYSCAPES_IDS)),
        )
        return (Layout("Cityscapes folders", images, () if split == "test" else labels),)


CITYSCAPES = Cityscapes()

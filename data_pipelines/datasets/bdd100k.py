"""BDD100K semantic segmentation (Yu et al., CVPR 2020): 10,000 frames of 1280x720 from cars in the USA.

Get it: https://bdd-data.berkeley.edu (bdd100k_images_10k.zip and bdd100k_sem_seg_labels_trainval.zip; they may stay packed,
side by side in one folder). Licence: BSD 3-clause for the tools, research terms for the data.
Layout: images/10k/SPLIT/*.jpg, labels/sem_seg/masks/SPLIT/*.png (train ids, 255 void). The older release,
seg/images/SPLIT/*.jpg with seg/labels/SPLIT/*_train_id.png, is recognised when the newer one is absent.
Splits: train 7,000, val 1,000, test 2,000 (no labels).
"""

from __future__ import annotations

from data_pipelines.decoders import IndexLabels
from data_pipelines.labels import TRAIN_IDS
from data_pipelines.layout import FileDataset, Labels, Layout


class Bdd100k(FileDataset):
    name, title = "bdd100k", "BDD100K"
    published = {"train": 7000, "val": 1000, "test": 2000}
    size = (1280, 720)
    expects = "images/10k/SPLIT/*.jpg and labels/sem_seg/masks/SPLIT/*.png"

    def layouts(self, split, **options):
        decode = IndexLabels(TRAIN_IDS)
        new = Labels("published train ids (sem_seg/masks)", rf"labels/sem_seg/masks/{split}/(?P<key>[^/]+)\.png", decode)
        old = Labels("published train ids (*_train_id.png)", rf"seg/labels/{split}/(?P<key>[^/]+)_train_id\.png", decode)
        none = split == "test"
        return (
            Layout("BDD100K 10k folders", rf"images/10k/{split}/(?P<key>[^/]+)\.jpg", () if none else (new,)),
            Layout("BDD100K seg folders (older release)", rf"seg/images/{split}/(?P<key>[^/]+)\.jpg", () if none else (old,)),
        )


BDD100K = Bdd100k()

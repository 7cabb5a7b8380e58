"""Mapillary Vistas (Neuhold et al., ICCV 2017): 25,000 street photos of many sizes from all over the world.

Get it: https://www.mapillary.com/dataset/vistas (one .zip, which may stay packed). Licence: CC BY-NC-SA 4.0 (research edition).
Layout: {training,validation,testing}/images/*.jpg with v1.2/labels/*.png (palette index 0-65) and v2.0/labels/*.png (0-123);
release 1.1 has labels/*.png. Prepared by the official scripts: cityscapes_trainIdLabel/{train,val}/label/*.png, and pictures of
half the size in half/{val_img,val_label}.
Recognised in this order: prepared train ids, v1.2 (what the literature reports), v1.1, v2.0; `labels="v2.0"` picks one by name.
`size="full"` (default) takes the published pictures and falls back to half/ when only that is there; `size="half"` insists on
half/.
Splits: train 18,000, val 2,000, test 5,000 (no labels).
v2.0 splits v1.2's classes more finely: every part has the train id of its v1.2 parent; see `labels.py`.
"""

from __future__ import annotations

from data_pipelines.decoders import IndexLabels
from data_pipelines.labels import MAPILLARY_V12_IDS, MAPILLARY_V20_IDS, TRAIN_IDS
from data_pipelines.layout import FileDataset, Labels, Layout

_FOLDER = {"train": "training", "val": "validation", "test": "testing"}


class Mapillary(FileDataset):
    name, title = "mapillary", "Mapillary Vistas"
    published = {"train": 18000, "val": 2000, "test": 5000}
    choices = {"size": ("full", "half")}
    expects = "training/images/*.jpg and training/v1.2/labels/*.png (or validation/, testing/)"

    def layouts(self, split, size="full", **options):
        part = _FOLDER[split]
        prepared = rf"cityscapes_trainIdLabel/{split}/label/(?P<key>[^/]+)\.png"
        labels = (
            Labels("prepared train ids (cityscapes_trainIdLabel)", prepared, IndexLabels(TRAIN_IDS)),
            Labels("published labels v1.2", rf"{part}/v1\.2/labels/(?P<key>[^/]+)\.png", IndexLabels(MAPILLARY_V12_IDS)),
            Labels("published labels v1.1", rf"{part}/labels/(?P<key>[^/]+)\.png", IndexLabels(MAPILLARY_V12_IDS)),
            Labels("published labels v2.0", rf"{part}/v2\.0/labels/(?P<key>[^/]+)\.png", IndexLabels(MAPILLARY_V20_IDS)),
        )
        shrunk = Labels("prepared train ids (half)", rf"half/{split}_label/(?P<key>[^/]+)\.png", IndexLabels(TRAIN_IDS))
        none = split == "test"
        half = Layout("Mapillary pictures of half size", rf"half/{split}_img/(?P<key>[^/]+)\.jpg", () if none else (shrunk,))
        full = Layout("Mapillary folders", rf"{part}/images/(?P<key>[^/]+)\.jpg", () if none else labels)
        return (half,) if size == "half" else (full, half)


MAPILLARY = Mapillary()

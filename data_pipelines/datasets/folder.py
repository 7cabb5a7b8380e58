"""Your own images and masks, any number of classes.

Layout, any of (pictures in .jpg .png .bmp .webp .tif .gif .jp2; masks in a format that keeps values):
  * images/a.jpg and masks/a.png: split by `val_share` (default 0.1 of the images, at least one, chosen by a hash of the names);
  * images/train/a.jpg and masks/train/a.png (train, val, test); or train/images/a.jpg and train/masks/a.png; or train_images/a.jpg
    and train_masks/a.png; or train/a.jpg and train_labels/a.png;
  * train/a.jpg and train/a_mask.png (Roboflow), or a.jpg beside a_mask.png or a.png without split folders;
  * JPEGImages, SegmentationClass and ImageSets/Segmentation/train.txt (Pascal VOC, CVAT).
Other folder names for masks: labels, annotations, gt, ...; `images=` and `masks=` name them when they are different or
ambiguous. A mask has its image's name, but for case and words such as _mask, label_, _L, _labelIds or _rgb (`pairing.py`).
Classes: names.txt (or `classes=` a file or a list) with one name per line, optionally with a colour (`road 128 64 128`, `road
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
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_pipelines import classlist
from data_pipelines.classlist import ClassList
from data_pipelines.datasets.arrangement import Arrangement, arrange
from data_pipelines.errors import DataError
from data_pipelines.files import Files, NothingThere, read_file, shown
from data_pipelines.layout import FileDataset, Labels, unpaired
from data_pipelines.maskscan import Masks, Reading, read_masks
from data_pipelines.maskvalues import plain
from data_pipelines.pairing import RULE, Item, Pairs, examples, pair
from data_pipelines.paths import local_path
from data_pipelines.places import locate, open_files, zips_in
from data_pipelines.records import open_records, recognise
from data_pipelines.source import Pair, Source

CLASS_FILES = ("names.txt", "classes.txt")
# Lists that other tools write; looked for where there is none of ours.
FOREIGN_CLASS_FILES = ("_classes.csv", "classes.csv", "class_dict.csv", "labelmap.txt", "label_colors.txt", "class_names.txt",
                       "classes.json", "names.json", "classes.yaml", "names.yaml")  # fmt: skip
SPLITS = ("train", "val", "test", "all")


class _Folder(FileDataset):
    """A folder as it was understood, with its masks read as `reading` says."""

    name, title, splits = "folder", "a folder of images and masks", SPLITS

    def __init__(self, reading: Reading):
        self.reading = reading

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
        return _prepared(path, split, classes, plain(ignore, values), {"subset": subset, "policy": policy, "exif": exif})
    named = [None if name is None else str(name) for name in (images, masks)]  # a folder may be called 7
    files, names, arrangement = _arranged(path, *named)
    chosen = _chosen(arrangement, split, val_share, files.where, policy)
    pairs = pair(arrangement.images, arrangement.masks, files)
    found = Masks(sorted(mask.name for mask in arrangement.masks), files.read, lambda name: shown(files.path(name)))
    tolerant = policy == "skip"
    reading = read_masks(found, _class_list(classes, files, names), ignore, values, encoding, tolerant)
    options = {**plain(ignore, values), "val_share": None if arrangement.splits else val_share}
    problems, kept = _problems(chosen, pairs, files, policy)
    kind = Labels(reading.found + pairs.rule, "", reading.decode)
    made = _Folder(reading).source_of(files, split, arrangement.found, kind, kept, subset, {"policy": policy, "exif": exif}, options)
    made.problems.update(problems)
    made.note = reading.note
    made.unused = [shown(name) for name in pairs.unused]
    return made


def _arranged(path: Path, images: str | None, masks: str | None) -> tuple[Files, list[str], Arrangement]:
    """The files of a place, their names and arrangement; .zip files in a folder are looked into where it holds nothing else."""
    for with_zips in (False, True):
        files = open_files(path, with_zips=with_zips)
        names = files.names()
        try:
            return files, names, arrange(files, names, images, masks)
        except NothingThere as error:
            problem = error
            if not (path.is_dir() and zips_in(path)):
                break
    raise problem


def _prepared(path: Path, split: str, classes: Any, meaning: dict[str, Any], reading: dict[str, Any]) -> Source:
    """A folder that `rein prepare` wrote: what masks mean was settled then, and options that say otherwise are refused."""
    given = {key: value for key, value in meaning.items() if value is not None}
    made = open_records(path, "folder", split, options=given, **reading)
    if classes is not None:
        names = _given_list(classes).classes().names
        if names != made.classes.names:
            raise DataError(
                f"{shown(os.fspath(path))} was prepared with the classes {', '.join(made.classes.names[:5])}, not those of classes=; "
                "open it without classes=, or prepare another folder."
            )
    return made


def _chosen(arrangement: Arrangement, split: str, val_share: float, where: str, policy: str) -> list[Item]:
    """The images of a split, in order of their names."""
    if (missing := arrangement.missing(split)) and policy == "raise":
        raise DataError(
            f"{shown(where)}: the list of {split} names {len(missing)} images that are not there: {examples(missing)}; complete the "
            "download or pass policy='skip'."
        )
    images = sorted(arrangement.of(split), key=lambda image: os.fsencode(image.name))
    if not arrangement.splits and split != "all":
        images = _share(images, split, val_share, where)
    if not images:
        raise NothingThere(f"{shown(where)} holds no {split} images ({arrangement.found}).")
    return images


def _problems(images: Sequence[Item], pairs: Pairs, files: Files, policy: str) -> tuple[dict[str, str], list[Pair]]:
    """What is wrong with the pairs of these images, raised with policy "raise", and the pairs that are left, in order."""
    names = {image.name for image in images}
    if pairs.masks and names.isdisjoint(pairs.masks) and names.isdisjoint(name for same, _ in pairs.doubles for name in same):
        raise NothingThere(f"{shown(files.where)} holds no masks for these {len(images)} images: {examples([i.name for i in images])}.")
    doubles = [(same, masks) for same, masks in pairs.doubles if names & set(same)]
    problems = {shown(same[0]): f"{_ambiguous(same, masks)}; left out." for same, masks in doubles}
    if doubles and policy == "raise":
        raise DataError(
            f"{len(doubles)} pairs are not clear, the first: {_ambiguous(*doubles[0])}; remove one, or point the source at one of the "
            "folders."
        )
    unclear = {name for same, _ in doubles for name in same}
    missing = [image.name for image in images if image.name not in pairs.masks and image.name not in unclear]
    problems |= unpaired(missing, pairs.unused, len(images), RULE, files, policy)
    kept = [image for image in images if image.name in pairs.masks]
    if not kept:
        raise DataError(
            f"No image in {shown(files.where)} has a mask (images: {examples(missing)}; masks: {examples(pairs.unused)}; "
            f"looked for: {RULE}); rename them alike."
        )
    return problems, [Pair(shown(image.name.removeprefix(_above(images))), image.name, pairs.masks[image.name]) for image in kept]


def _above(images: Sequence[Item]) -> str:
    """What stands in front of the images' folder, if it is the same for all: the names of elements do not depend on it."""
    return images[0].prefix if len({image.prefix for image in images}) == 1 else ""


def _ambiguous(images: Sequence[str], masks: Sequence[str]) -> str:
    if len(images) > 1:
        return f"images of the same name, {' and '.join(map(shown, images))}"
    return f"{' and '.join(map(shown, masks))} could each be the mask of {shown(images[0])}"


def _share(images: Sequence[Item], split: str, val_share: float, where: str) -> list[Item]:
    if split == "test":
        raise NothingThere(
            f"{shown(where)} has no split folders, so there are only train, val and all; make images/test for a test split."
        )
    if not isinstance(val_share, (int, float)) or not 0 < val_share < 1:
        raise DataError(f"val_share={val_share} must lie between 0 and 1.")
    if len(images) < 2:
        raise DataError(f"{shown(where)} holds a single image, which cannot be split; use split='all'.")
    several = len({image.prefix for image in images}) > 1
    keys = {image.name: (image.prefix if several else "") + image.inner.rpartition(".")[0] for image in images}
    ranked = sorted(set(keys.values()), key=lambda key: hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest())
    count = min(max(1, round(len(ranked) * val_share)), len(ranked) - 1)
    wanted = set(ranked[:count] if split == "val" else ranked[count:])
    return [image for image in images if keys[image.name] in wanted]


def _class_list(classes: Any, files: Files, names: Sequence[str]) -> ClassList | None:
    if classes is not None:
        return _given_list(classes)
    for known in (CLASS_FILES, FOREIGN_CLASS_FILES):
        lists = sorted((n for n in names if n.rpartition("/")[2] in known), key=lambda n: (n.count("/"), n))
        if lists:
            return _the_list([name for name in lists if name.count("/") == lists[0].count("/")], files)
    return None


def _given_list(classes: Any) -> ClassList:
    """The class list of the option `classes`: a file or the names."""
    if isinstance(classes, (str, os.PathLike)):
        path = local_path(classes)
        return classlist.read(_bytes_of(path), str(classes), path.name)
    if not isinstance(classes, Sequence):
        raise DataError(f"classes={classes!r} is not understood; give a file with one name on each line, or a list of names.")
    return classlist.from_names(list(classes))


def _the_list(lists: Sequence[str], files: Files) -> ClassList:
    """The class list in files that lie equally deep; they may be several if all say the same, as one in each split does."""
    read = [classlist.read(files.read(name), shown(files.path(name)), shown(name.rpartition("/")[2])) for name in lists]
    for name, other in zip(lists[1:], read[1:], strict=True):
        if replace(other, where=read[0].where) != read[0]:
            raise DataError(f"{files.where} holds {lists[0]} and {name}, which differ; keep one or choose with classes=.")
    return read[0]


def _bytes_of(path: Path) -> bytes:
    if not path.exists():
        raise DataError(f"Class list {path} does not exist; give a text file with one name per line.")
    return read_file(path)

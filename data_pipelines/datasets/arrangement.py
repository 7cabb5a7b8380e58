"""Where images, masks and splits lie in a user's folder: which files are images, which masks, and of which split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from data_pipelines.errors import DataError
from data_pipelines.files import Files, NothingThere, shown
from data_pipelines.pairing import MASK_WORDS, Item, pair, stem
from data_pipelines.pictures import SUFFIXES

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
SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
_SPLIT_OF = {word: split for split, words in SPLITS.items() for word in words}
_PART = rf"(?P<part>{'|'.join(_SPLIT_OF)})"
_PICTURE = re.compile(rf".+(?:{'|'.join(map(re.escape, SUFFIXES))})", re.IGNORECASE | re.DOTALL)
_MASK = re.compile(rf"(?:.*/)?(?:(?:{MASK_WORDS})[ _.-][^/]+|[^/]+[ _.-](?:{MASK_WORDS}))\.[^/.]+", re.IGNORECASE | re.DOTALL)
_PLACES = {"inside": rf"{{0}}/{_PART}/(?P<inner>.+)", "outside": rf"{_PART}/{{0}}/(?P<inner>.+)", "none": "{0}/(?P<inner>.+)"}
# Where the split stands, of images and of masks, in order of preference.
_ORDER = (("inside", "inside"), ("outside", "outside"), ("inside", "none"), ("outside", "none"), ("none", "none"))
_WORDS = {
    ("inside", "inside"): "{0}/SPLIT and {1}/SPLIT",
    ("outside", "outside"): "SPLIT/{0} and SPLIT/{1}",
    ("inside", "none"): "{0}/SPLIT and {1}",
    ("outside", "none"): "SPLIT/{0} and {1}",
    ("none", "none"): "{0} and {1}",
}
_LISTS = re.compile(r"(?:.*/)?ImageSets/Segmentation/(?P<split>[^/]+)\.txt", re.IGNORECASE)  # of Pascal VOC and CVAT


@dataclass(frozen=True)
class Arrangement:
    """The images and masks of all splits, what was recognised in words, and whether folders or lists tell the splits.

    `listed`: the names (without folder and suffix) of the images that lists give to each split, where there are lists.
    """

    images: tuple[Item, ...]
    masks: tuple[Item, ...]
    found: str
    splits: bool
    listed: dict[str, frozenset[str]] | None = None

    def of(self, split: str) -> list[Item]:
        """The images of a split; "all" are those of every split."""
        chosen = None if self.listed is None else frozenset().union(*self.listed.values()) if split == "all" else self.listed.get(split, ())
        if chosen is not None:
            return [image for image in self.images if stem(image.inner) in chosen]
        return [image for image in self.images if split == "all" or not self.splits or image.part == split]

    def missing(self, split: str) -> list[str]:
        """What a list gives to a split and is not there, sorted."""
        present = {stem(image.inner) for image in self.images}
        return sorted(name for name in (self.listed or {}).get(split, ()) if name not in present)


def arrange(files: Files, names: Sequence[str], images: str | None, masks: str | None) -> Arrangement:
    """Recognises how `names` are arranged; `images` and `masks` name the folders. NothingThere if no way fits."""
    pictures = [name for name in names if _PICTURE.fullmatch(name)]
    for places in _ORDER:
        some = _present(pictures, places[0], (images,) if images else IMAGE_FOLDERS, "images", files)
        others = _present(pictures, places[1], (masks,) if masks else MASK_FOLDERS, "masks", files)
        if some and others:
            splits = places != ("none", "none")
            listed = None if splits else _lists(files, names)
            found = _WORDS[places].format(some, others) + ("" if splits else ", split by lists" if listed else ", split by a hash")
            items = _items(pictures, places[0], some), _items(pictures, places[1], others)
            return Arrangement(*items, found, splits or listed is not None, listed)
    beside = None if images or masks else _beside(pictures, files)
    if beside is not None:
        return beside
    raise NothingThere(
        f"{shown(files.where)} holds no folders {images or 'images'}/ and {masks or 'masks'}/ with pictures; "
        f"name the folders with images= and masks=.{_hint(names)}"
    )


def _hint(names: Sequence[str]) -> str:
    """What is said of annotations that are no pictures."""
    for suffix, what in ((".json", "JSON (COCO, LabelMe)"), (".xml", "XML (Pascal VOC boxes, CVAT)"), (".txt", "text (YOLO)")):
        at = [name for name in names if name.lower().endswith(suffix) and re.search("annot|label|gt/", name.lower())]
        if at:
            return f" {shown(at[0])} looks like annotations in {what}: export them as mask pictures."
    return ""


def _present(pictures: Sequence[str], place: str, candidates: Sequence[str], option: str, files: Files) -> str | None:
    """The one folder of these names that is there at that place."""
    folders = {f"{name.rpartition('/')[0]}/x.png": name for name in pictures if "/" in name}
    present = [folder for folder in candidates if _items(list(folders), place, folder)]
    if len(present) > 1:
        real = [frozenset(files.real(item.name) for item in _items(pictures, place, folder)) for folder in present]
        if len(set(real)) > 1:  # otherwise one is a link to the other
            raise DataError(
                f"{shown(files.where)} holds several folders that could be the {option}: {', '.join(present)}; "
                f"choose one with {option}=."
            )
    return present[0] if present else None


def _items(pictures: Sequence[str], place: str, folder: str) -> tuple[Item, ...]:
    pattern = re.compile(rf"(?P<prefix>(?:.*/)?){_PLACES[place].format(re.escape(folder.strip('/')))}", re.IGNORECASE | re.DOTALL)
    hits = [(picture, hit) for picture in pictures if (hit := pattern.fullmatch(picture))]
    return tuple(Item(n, h["prefix"], _SPLIT_OF[h["part"].lower()] if place != "none" else "", h["inner"]) for n, h in hits)


def _beside(pictures: Sequence[str], files: Files) -> Arrangement | None:
    """Masks next to their images, told by a word in their names (`a.jpg` and `a_mask.png`, as Roboflow exports them), or photos as
    JPEG and masks as PNG of the same names."""
    items = [_item_beside(name) for name in pictures]
    splits = any(item.part for item in items)  # then pictures outside of the splits are none of the data set
    items = [item for item in items if item.part or not splits]
    for is_mask in (_MASK.fullmatch, re.compile(r".+\.png", re.IGNORECASE | re.DOTALL).fullmatch):
        masks = tuple(item for item in items if is_mask(item.inner))
        images = tuple(item for item in items if not is_mask(item.inner))
        if masks and images and pair(images, masks, files).masks:
            return Arrangement(images, masks, "masks beside images" + (" in SPLIT" if splits else ", split by a hash"), splits)
    return None


def _item_beside(name: str) -> Item:
    folder, _, inner = name.rpartition("/")
    above, _, last = folder.rpartition("/")
    split = _SPLIT_OF.get(last.lower(), "")
    return Item(name, f"{prefix}/" if (prefix := above if split else folder) else "", split, inner)


def _lists(files: Files, names: Sequence[str]) -> dict[str, frozenset[str]] | None:
    """Image names by split from the lists of Pascal VOC; None where no list bears the name of a split."""
    found: dict[str, frozenset[str]] = {}
    for name in names:
        hit = _LISTS.fullmatch(name)
        split = _SPLIT_OF.get(hit["split"].lower()) if hit else None
        if split is not None:
            lines = files.read(name).decode("utf-8-sig", "surrogateescape").splitlines()
            found[split] = frozenset(stem(line.strip()) for line in lines if line.strip())
    return found or None

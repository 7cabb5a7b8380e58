"""Where images, masks and splits lie in a user's folder: which files are images, which masks, and of which split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from data_pipelines.errors import DataError
from data_pipelines.files import Files, NothingThere, shown
from data_pipelines.pairing import MASK_WORDS, Item, examples, pair, stem
from data_pipelines.pictures import SUFFIXES

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "rgb", "photos", "JPEGImages", "img_dir", "image_2", "images_png", "leftImg8bit")
MASK_FOLDERS = (
    "masks",
    "mask",
    "labels",
    "label",
    "annotations",
    "annotation",
    "annots",
    "annot",
    "gt",
    "groundtruth",
    "ground_truth",
    "segmentations",
    "SegmentationClass",
    "ann_dir",
    "semantic",
    "masks_png",
    "gtFine",
)
SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing")}
_SPLIT_OF = {word: split for split, words in SPLITS.items() for word in words}
_PART = rf"(?P<part>(?:{'|'.join(_SPLIT_OF)})(?:\d{{{{4}}}})?)"  # also train2017
_PICTURE = re.compile(rf".+(?:{'|'.join(map(re.escape, SUFFIXES))})", re.IGNORECASE | re.DOTALL)
_MASK = re.compile(rf"(?:.*/)?(?:(?:{MASK_WORDS})[ _.-][^/]+|[^/]+[ _.-](?:{MASK_WORDS}))\.[^/.]+", re.IGNORECASE | re.DOTALL)
_PLACES = {
    "inside": rf"{{0}}/{_PART}/(?P<inner>.+)",
    "outside": rf"{_PART}/(?P<between>(?:[^/]+/)*){{0}}/(?P<inner>.+)",
    "behind": rf"{_PART}[ _-]?{{0}}/(?P<inner>.+)",
    "before": rf"{{0}}[ _-]?{_PART}/(?P<inner>.+)",
    "alone": rf"{_PART}/(?P<inner>[^/]+)",
    "none": "{0}/(?P<inner>.+)",
}
# Where the split stands, of images and of masks, in words and in order of preference; {0} and {1} are the names of the folders.
_ORDER = {
    ("inside", "inside"): "{0}/SPLIT and {1}/SPLIT",
    ("outside", "outside"): "SPLIT/{0} and SPLIT/{1}",
    ("behind", "behind"): "SPLIT_{0} and SPLIT_{1}",
    ("before", "before"): "{0}_SPLIT and {1}_SPLIT",
    ("alone", "behind"): "SPLIT and SPLIT_{1}",
    ("inside", "none"): "{0}/SPLIT and {1}",
    ("outside", "none"): "SPLIT/{0} and {1}",
    ("none", "none"): "{0} and {1}",
}
_JPEG, _PNG = (re.compile(rf".+\.(?:{suffixes})", re.IGNORECASE | re.DOTALL) for suffixes in ("jpe?g|jfif", "png"))
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
    for places, words in _ORDER.items():
        known = ("SPLIT",) if places[0] == "alone" else IMAGE_FOLDERS  # where the split stands alone the images' folder has no name
        if places[0] == "alone" and images:
            continue
        image_folder = _present(pictures, places[0], (images,) if images else known, "images", files)
        if image_folder is None:
            continue
        mask_folder = _present(pictures, places[1], (masks,) if masks else MASK_FOLDERS, "masks", files)
        if mask_folder is not None:
            splits = places != ("none", "none")
            listed = None if splits else _lists(files, names)
            found = words.format(image_folder, mask_folder) + ("" if splits else ", split by lists" if listed else ", split by a hash")
            items = _items(pictures, places[0], image_folder), _items(pictures, places[1], mask_folder)
            return Arrangement(*items, found, splits or listed is not None, listed)
    other = None if images else _around(pictures, masks, files)
    other = other if other or images or masks else _beside(pictures, files)
    if other is not None:
        return other
    raise NothingThere(
        f"{shown(files.where)} holds no folders {images or 'images'}/ and {masks or 'masks'}/ with pictures; "
        f"name the folders with images= and masks= ({_contents(names, pictures)}).{_hint(names)}"
    )


def _contents(names: Sequence[str], pictures: Sequence[str]) -> str:
    """What a place holds instead, in words."""
    folders = sorted({name.rpartition("/")[0] or "." for name in pictures})
    if folders:
        return f"pictures are in {examples(folders)}"
    return f"it holds no pictures: {examples(names)}" if names else "it holds no files"


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
    return tuple(_item(name, hit.groupdict()) for name, hit in hits)


def _item(name: str, groups: dict[str, str]) -> Item:
    return Item(name, groups["prefix"] + groups.get("between", ""), _split(groups.get("part", "")), groups["inner"])


def _split(word: str) -> str:
    """The split of a folder or list of this name; "" for other names."""
    return _SPLIT_OF.get(re.sub(r"\d{4}$", "", word).lower(), "")


def _around(pictures: Sequence[str], masks: str | None, files: Files) -> Arrangement | None:
    """Images that lie in the folder that holds the masks' folder."""
    folder = _present(pictures, "none", (masks,) if masks else MASK_FOLDERS, "masks", files)
    items = _items(pictures, "none", folder) if folder else ()
    prefixes = {item.prefix for item in items}
    at = [(name, *name.rpartition("/")) for name in pictures]
    images = tuple(Item(name, above + slash, "", inner) for name, above, slash, inner in at if above + slash in prefixes)
    return Arrangement(images, items, f"images around {folder}, split by a hash", False) if images else None


def _beside(pictures: Sequence[str], files: Files) -> Arrangement | None:
    """Masks told by a word in their names (`a.jpg` and `a_mask.png`, as Roboflow exports them), or photos as JPEG and masks as PNG of
    the same names. A few names that happen to look so make no data set of a folder of pictures."""
    items = [_item_beside(name) for name in pictures]
    splits = any(item.part for item in items)  # then pictures outside of the splits are none of the data set
    items = [item for item in items if item.part or not splits]
    for is_image, is_mask, share in ((re.compile(".").match, _MASK.fullmatch, 0.5), (_JPEG.fullmatch, _PNG.fullmatch, 1)):
        masks = tuple(item for item in items if is_mask(item.inner))
        images = tuple(item for item in items if is_image(item.inner) and not is_mask(item.inner))
        found = len(pair(images, masks, files).masks) if images and masks else 0
        if found and found >= share * max(len(images), len(masks)) and len(images) + len(masks) == len(items):
            words = "masks told by their names" + (", in SPLIT" if splits else ", split by a hash")
            return Arrangement(images, masks, words, splits)
    return None


def _item_beside(name: str) -> Item:
    folder, _, inner = name.rpartition("/")
    above, _, last = folder.rpartition("/")
    split = _split(last)
    return Item(name, f"{prefix}/" if (prefix := above if split else folder) else "", split, inner)


def _lists(files: Files, names: Sequence[str]) -> dict[str, frozenset[str]] | None:
    """Image names by split from the lists of Pascal VOC; None where no list bears the name of a split."""
    found: dict[str, frozenset[str]] = {}
    for name in names:
        hit = _LISTS.fullmatch(name)
        if hit and (split := _split(hit["split"])):
            lines = files.read(name).decode("utf-8-sig", "surrogateescape").splitlines()
            found[split] = frozenset(stem(line.strip()) for line in lines if line.strip())
    return found or None

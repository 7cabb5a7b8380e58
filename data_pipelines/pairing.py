"""Which mask belongs to which image, by their names: what can be told without ambiguity is told, nothing is guessed.

Names are compared more and more loosely (RULES), within the same folders first; a rule gives a pair only where one image and one
mask alone agree. If no rule finds any, images and masks may each have their own constant beginning and end (`img_007_rgb` and
`m-007-ids`): that is believed if it pairs every image with every mask.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from data_pipelines.files import Files, shown
from data_pipelines.pictures import SUFFIXES

MASK_WORDS = (
    r"masks?|labels?|lbls?|gt|ground[ _-]?truth|segs?|segm|segmentations?|sem|semantic|annots?|annotations?|anno|ann|targets?|l|ids|"
    r"label[ _-]?(?:train)?[ _-]?ids|train[ _-]?ids|gt(?:fine|coarse)[ _-]label(?:train)?ids|gt(?:fine|coarse)"
)
IMAGE_WORDS = r"images?|imgs?|rgb|rgb[ _-]anon|photos?|pics?|sat|leftimg8bit|orig|original|input|raw"
NONE = r"(?!)"  # no word
_SUFFIX = re.compile(rf"(?:{'|'.join(map(re.escape, SUFFIXES))})+$", re.IGNORECASE)
RULE = "equal names but for case, Unicode form, a kept suffix, separators, and words such as _mask, label_, _L, _labelIds or _rgb"


@dataclass(frozen=True)
class Item:
    """An image or mask: its name in its place, the folders before those that tell images and masks, its split folder ("" = none)
    and its path below."""

    name: str
    prefix: str
    part: str
    inner: str


@dataclass
class Pairs:
    """`masks` gives images their masks, `doubles` are (images, masks) among which nothing can be told, `unused` masks are left over;
    `rule` is what is said of an unusual way of pairing."""

    masks: dict[str, str] = field(default_factory=dict)
    doubles: list[tuple[list[str], list[str]]] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    rule: str = ""


def pair(images: Sequence[Item], masks: Sequence[Item], files: Files) -> Pairs:
    """Pairs images with masks; `files` tells links to one file, which are no doubles."""
    found = Pairs()
    if not any(mask.part for mask in masks):
        images = [Item(image.name, image.prefix, "", image.inner) for image in images]
    left = list(images), list(masks)
    scopes = _scopes([*images, *masks])
    for scope in scopes[:2]:
        for rule in RULES:
            left = _take(*left, scope, rule, found, files)
    if not found.masks and not found.doubles:
        for scope, rule in [(scope, rule) for scope in scopes[2:] for rule in RULES] + [(scope, None) for scope in scopes]:
            if _take_all(images, masks, scope, rule or _changing(images, masks), found):
                found.rule = ", paired by their file names alone" if rule else ", paired by what changes in their names"
                left = [], []
                break
    _refuse_ambiguous(images, left[1], found)
    used = {*found.masks.values(), *(name for _, names in found.doubles for name in names)}
    found.unused = sorted(mask.name for mask in masks if mask.name not in used)
    return found


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _stem(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[0]


def stem(path: str) -> str:
    """The name of a file without folders and its suffix, nor that of an image which some programs keep (`a.jpg.png`)."""
    return _SUFFIX.sub("", path.rpartition("/")[2])


@lru_cache(maxsize=1 << 17)  # the rules ask for the same names again and again
def _bare(name: str) -> str:
    return _plain(stem(name))


@lru_cache
def _word(words: str, ends: str) -> re.Pattern[str]:
    begin, end = rf"^(?:{words})[ _.-]+(?=.)", rf"(?<=.)[ _.-]+(?:{words})$"
    return re.compile({"begin": begin, "end": end, "both": f"{begin}|{end}"}[ends])


@lru_cache(maxsize=1 << 18)
def _without(name: str, words: str, ends: str = "both") -> str:
    """The name with one kind of separators and without the words at both its ends, or without one at its "begin" or "end"."""
    bare, before = _bare(name), ""
    while bare != before:
        before, bare = bare, _word(words, ends).sub("", bare)
        if ends != "both":
            break
    return re.sub(r"[ _.-]+", "_", _SUFFIX.sub("", bare))


# (key of an image's name, key of a mask's name)
Rule = tuple[Callable[[str], str], Callable[[str], str]]
RULES: tuple[Rule, ...] = (
    (_stem, _stem),
    (lambda name: _plain(_stem(name)), lambda name: _plain(_stem(name))),
    (_bare, _bare),
    # `a_label.png` has `a_label_mask.png`, `gt_a.png` has `mask_gt_a.png`: one word at a time
    (lambda name: _without(name, NONE), lambda name: _without(name, MASK_WORDS, "end")),
    (lambda name: _without(name, NONE), lambda name: _without(name, MASK_WORDS, "begin")),
    (lambda name: _without(name, NONE), lambda name: _without(name, MASK_WORDS)),
    (lambda name: _without(name, IMAGE_WORDS), lambda name: _without(name, MASK_WORDS)),
)


def _below(item: Item) -> str:
    return _plain(item.inner.rpartition("/")[0])


def _same_folders(item: Item) -> tuple[str, ...]:
    return item.part, _plain(item.prefix), _below(item)


def _same_below(item: Item) -> tuple[str, ...]:
    return item.part, _below(item)


def _any_folder(item: Item) -> tuple[str, ...]:
    return (item.part,)


def _scopes(items: Sequence[Item]) -> list[Callable[[Item], tuple[str, ...]]]:
    """The ways in which folders may have to agree, the strictest first; one way where there are no folders that could differ."""
    flat = len({(item.prefix, item.inner.rpartition("/")[0]) for item in items}) == 1
    return [_any_folder] if flat else [_same_folders, _same_below, _any_folder]


def _grouped(items: Sequence[Item], scope: Callable, key: Callable[[str], str]) -> dict[tuple, list[Item]]:
    groups: dict[tuple, list[Item]] = {}
    for item in items:
        groups.setdefault((*scope(item), key(item.inner)), []).append(item)
    return groups


def _take(images, masks, scope, rule: Rule, found: Pairs, files: Files) -> tuple[list[Item], list[Item]]:
    """Moves what a rule tells into `found`; returns what is left."""
    images_by_key, masks_by_key, gone = _grouped(images, scope, rule[0]), _grouped(masks, scope, rule[1]), set()
    for key in images_by_key.keys() & masks_by_key.keys():
        same_images, same_masks = (_one_of_links(group[key], files) for group in (images_by_key, masks_by_key))
        if len(same_images) == len(same_masks) == 1:
            found.masks[same_images[0].name] = same_masks[0].name
        else:
            found.doubles.append(([item.name for item in same_images], [item.name for item in same_masks]))
        gone |= {item.name for item in (*images_by_key[key], *masks_by_key[key])}
    return [item for item in images if item.name not in gone], [item for item in masks if item.name not in gone]


def _one_of_links(items: list[Item], files: Files) -> list[Item]:
    return items[:1] if len(items) > 1 and len({files.real(item.name) for item in items}) == 1 else items


def _take_all(images, masks, scope, rule: Rule | None, found: Pairs) -> bool:
    """Whether a rule pairs every image with every mask; then `found` holds the pairs."""
    if rule is None or len(images) != len(masks):
        return False
    images_by_key, masks_by_key = _grouped(images, scope, rule[0]), _grouped(masks, scope, rule[1])
    if images_by_key.keys() != masks_by_key.keys() or not len(images_by_key) == len(images) == len(masks):
        return False
    found.masks.update({group[0].name: masks_by_key[key][0].name for key, group in images_by_key.items()})
    return True


def _changing(images: Sequence[Item], masks: Sequence[Item]) -> Rule | None:
    """The rule that leaves out what all images, and all masks, have in common at the beginning and end of their names."""
    ends = [_constant(sorted({_bare(item.inner) for item in items})) for items in (images, masks)]
    if None in ends or re.findall(r"\d+", "_".join(ends[0])) != re.findall(r"\d+", "_".join(ends[1])):
        return None  # a number that differs (`2019_01`, `2020_01`) says that these are others

    def core(begin: str, end: str) -> Callable[[str], str]:
        return lambda name: re.sub(r"\d+", lambda number: str(int(number[0])), _bare(name)[len(begin) : len(_bare(name)) - len(end)])

    return core(*ends[0]), core(*ends[1])


def _constant(names: list[str]) -> tuple[str, str] | None:
    """What sorted different names have in common at the beginning and at the end, never a part of a number."""
    if len(names) < 2:
        return None
    begin = re.sub(r"\d+$", "", os.path.commonprefix([names[0], names[-1]]))
    backwards = sorted(name[len(begin) :][::-1] for name in names)
    return begin, re.sub(r"\d+$", "", os.path.commonprefix([backwards[0], backwards[-1]]))[::-1]


def _refuse_ambiguous(images: Sequence[Item], unused: Sequence[Item], found: Pairs) -> None:
    """A mask that is left over but could as well be that of a paired image (`a.png` and `a_mask.png`) makes the pair ambiguous."""
    candidates = _grouped(unused, _same_folders, RULES[-1][1])
    for key, group in _grouped([image for image in images if image.name in found.masks], _same_folders, RULES[-1][0]).items():
        if key in candidates and len(group) == 1:
            found.doubles.append(([group[0].name], [found.masks.pop(group[0].name), *(item.name for item in candidates[key])]))


def examples(names: Sequence[str]) -> str:
    """Three names for a message."""
    return ", ".join(map(shown, names[:3])) + (", ..." if len(names) > 3 else "") if names else "none"

"""Finds the image and label files of a data set by their published names, wherever the user unpacked them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from data_pipelines.errors import DataError
from data_pipelines.files import Files, NothingThere, shown
from data_pipelines.labels import CITYSCAPES, ClassInfo
from data_pipelines.pairing import examples
from data_pipelines.places import locate, open_files, zips_in
from data_pipelines.records import open_records, recognise
from data_pipelines.source import Facts, FileSource, Pair, Source, subset_step


@dataclass(frozen=True)
class Labels:
    """One way in which labels are stored: a pattern whose group `key` equals the image's, and the decoder of the pictures.

    A group `part`, where there is one, belongs to the key.
    """

    found: str
    pattern: str
    decode: Any


@dataclass(frozen=True)
class Layout:
    """One way in which a split lies on disk.

    `labels` stand in order of preference; none means that the split has no labels, `optional` that it need not have them.
    """

    found: str
    images: str
    labels: tuple[Labels, ...] = ()
    optional: bool = False


@dataclass
class Match:
    """Files of one pattern by key; `doubles` lists keys that more than one file has."""

    files: dict[str, str] = field(default_factory=dict)
    doubles: dict[str, list[str]] = field(default_factory=dict)


def match(names: Sequence[str], pattern: str) -> tuple[Match, dict[str, str]]:
    """Files whose path ends with the pattern, by key, and by key the part of the path that the pattern covers."""
    compiled = re.compile(rf"(?:.*/)?(?P<whole>{pattern})", re.DOTALL)
    found, wholes = Match(), {}
    for name in names:
        hit = compiled.fullmatch(name)
        if hit is None:
            continue
        key = f"{hit['part']}/{hit['key']}" if "part" in compiled.groupindex else hit["key"]
        if key in found.files:
            found.doubles.setdefault(key, [found.files[key]]).append(name)
        else:
            found.files[key], wholes[key] = name, hit["whole"]
    return found, wholes


class FileDataset:
    """A data set of image and label files. A subclass is one file in `datasets/` and says names, counts and layouts.

    `basic` names the splits that hold every image once, `published` the number of pairs per split, `size` (width, height) if
    all images share one, `choices` the extra options with their allowed values (first = default). Common options: `policy`,
    `exif` (see Source), `labels` (part of the name of the label kind to use when several are present) and `subset="1/N"` (every
    N-th element in order of names, from the first).
    """

    name = ""
    title = ""
    classes: ClassInfo = CITYSCAPES
    splits: tuple[str, ...] = ("train", "val", "test")
    basic: tuple[str, ...] = ("train", "val", "test")
    published: dict[str, int] = {}
    size: tuple[int, int] | None = None
    mismatch = "raise"
    choices: dict[str, tuple] = {}
    expects = ""  # the folders that are looked for, in words

    def layouts(self, split: str, **options: Any) -> tuple[Layout, ...]:
        """Layouts in order of preference; the first whose images are there is used."""
        raise TypeError(f"{type(self).__name__} must give its layouts")

    def domain(self, **options: Any) -> str:
        return self.name

    def count(self, split: str, **options: Any) -> int | None:
        """Published number of images, None if unknown."""
        return self.published.get(split)

    def classes_for(self, **options: Any) -> ClassInfo:
        return self.classes

    def members(self, split: str, files: Files, names: Sequence[str]) -> set[str] | None:
        """Keys that belong to the split, for splits that a file lists; None = every image of the layout."""
        return None

    def __call__(self, split: str = "train", source: str | os.PathLike | None = None, **options: Any) -> Source:
        """Opens one split; see `data_pipelines.open_source`."""
        reading = {key: options.pop(key) for key in ("policy", "exif") if key in options}
        subset, labels = options.pop("subset", None), options.pop("labels", None)
        options = self._options(split, options)
        path = locate(self.name, source)
        if recognise(path):
            return open_records(path, self.name, split, options=options, subset=subset, **reading)
        names: tuple[Files, list[str]] | None = None
        problem: DataError | None = None
        for with_zips in (False, True) if path.is_dir() and zips_in(path) else (False,):
            files = open_files(path, with_zips=with_zips)
            names = files, files.names()
            try:
                return self.found_source(*names, split, subset, labels, reading, options)
            except DataError as error:  # perhaps a part is still packed: look into the .zip files next
                problem = error
        raise problem

    def _options(self, split: str, options: dict[str, Any]) -> dict[str, Any]:
        if split not in self.splits:
            raise DataError(f"{self.name} has no split {split!r}; choose one of {', '.join(self.splits)}.")
        for key, value in options.items():
            if key not in self.choices:
                known = sorted([*self.choices, "exif", "labels", "policy", "source", "split", "subset"])
                raise DataError(f"{self.name} has no option {key!r}; it knows {', '.join(known)}.")
            if value not in self.choices[key]:
                raise DataError(
                    f"{key}={value!r} is unknown for {self.name}; choose one of {', '.join(map(str, self.choices[key]))}."
                )
        return {key: options.get(key, values[0]) for key, values in self.choices.items()}

    def found_source(self, files: Files, names: list[str], split: str, subset, labels, reading, options) -> FileSource:
        """The source made of the first layout that is there; `names` are the files\' names."""
        policy = reading.get("policy", "raise")
        for layout in self.layouts(split, **options):
            images, wholes = match(names, layout.images)
            if images.files:
                break
        else:
            raise NothingThere(f"{files.where} holds no {split} images of {self.title}; expected {self.expects}.")
        _drop_links(images, files)
        problems = _doubles(images, "images", policy)
        members = self.members(split, files, names)
        keys = [key for key in images.files if key not in images.doubles and (members is None or key in members)]
        keys.sort(key=lambda key: os.fsencode(wholes[key]))
        if not keys:
            raise NothingThere(f"{files.where} holds no image of split {split!r} of {self.title}.")
        chosen, kind = _choose(names, layout, keys, images, labels, files.where)
        if kind is not None:
            _drop_links(chosen, files)
            problems |= _doubles(chosen, "labels", policy, set(keys))
            problems |= self._unpaired(keys, chosen, kind, images, files, policy)
            keys = [key for key in keys if key in chosen.files and key not in chosen.doubles]
        pairs = [Pair(shown(wholes[key]), images.files[key], chosen.files.get(key) if kind else None) for key in keys]
        made = self.source_of(files, split, layout.found, kind, pairs, subset, reading, options)
        made.problems.update(problems)
        made.unused = [shown(name) for key, name in sorted(chosen.files.items()) if key not in images.files]
        return made

    def source_of(
        self, files: Files, split: str, found: str, kind: Labels | None, pairs: list[Pair], subset, reading, options
    ) -> FileSource:
        """The source of pairs in order; `found` says in words which layout they lie in, `kind` how labels are stored."""
        facts = Facts(
            name=self.name,
            split=split,
            domain=self.domain(**options),
            classes=self.classes_for(**options),
            found=f"{found}, {kind.found if kind else 'no labels'}",
            decode=kind.decode if kind else None,
            has_labels=kind is not None,
            mismatch=self.mismatch,
            options={**options, "subset": subset},
        )
        return FileSource(facts, files, pairs[:: subset_step(subset)], **reading)

    def _unpaired(self, keys, labels: Match, kind: Labels, images: Match, files: Files, policy: str) -> dict[str, str]:
        missing = [images.files[key] for key in keys if key not in labels.files]
        unused = [name for key, name in sorted(labels.files.items()) if key not in images.files]
        return unpaired(missing, unused, len(keys), kind.found, files, policy)


def unpaired(missing: Sequence[str], unused: Sequence[str], of: int, rule: str, files: Files, policy: str) -> dict[str, str]:
    """Raises, or with policy "skip" lists, images without a label; `rule` says what was looked for, `unused` are labels left over."""
    if missing and policy == "raise":
        raise DataError(
            f"{len(missing)} of {of} images have no label, the first is {shown(files.path(missing[0]))} (without label: "
            f"{examples(missing)}; labels without image: {examples(unused)}; looked for: {rule}); complete the download, rename the "
            "files, or pass policy='skip'."
        )
    return {shown(name): f"{shown(files.path(name))} has no label; left out." for name in missing}


def _drop_links(found: Match, files: Files) -> None:
    """Names that lead to one file through links are no doubles; the first is kept."""
    for key in [key for key, names in found.doubles.items() if len({files.real(name) for name in names}) == 1]:
        del found.doubles[key]


def _doubles(found: Match, what: str, policy: str, within: set[str] | None = None) -> dict[str, str]:
    doubles = {key: names for key, names in found.doubles.items() if within is None or key in within}
    if doubles and policy == "raise":
        names = next(iter(doubles.values()))
        raise DataError(
            f"{len(doubles)} {what} appear twice, for example {shown(names[0])} and {shown(names[1])}; remove one, "
            "or point the source at one of the folders."
        )
    return {
        shown(names[0]): f"{', '.join(map(shown, names))} are {what} of the same name; left out." for names in doubles.values()
    }


def _choose(names, layout: Layout, keys: list[str], images: Match, wanted: str | None, where: str) -> tuple[Match, Labels | None]:
    """The kind of labels that covers the most images; the earlier one in the layout wins a tie."""
    kinds = [kind for kind in layout.labels if wanted is None or wanted.lower() in kind.found.lower()]
    if layout.labels and not kinds:
        raise DataError(f"labels={wanted!r} fits none of the known kinds: {'; '.join(kind.found for kind in layout.labels)}.")
    best, chosen, most = None, Match(), 0
    for kind in kinds:
        found, _ = match(names, kind.pattern)
        covered = sum(key in found.files for key in keys)
        if covered > most:
            best, chosen, most = kind, found, covered
    if kinds and best is None and not layout.optional:
        raise DataError(
            f"{shown(where)} holds images but no labels for them (images: {examples([images.files[key] for key in keys])}); "
            f"expected {' or '.join(kind.found for kind in kinds)}."
        )
    return chosen, best

"""A source: the elements of one data set at one split, decoded on demand, with a policy for files that do not fit.

What happens to a file that does not fit, with policy "raise" / "skip" (listed in `problems` and replaced by the next readable
element):
  * empty, truncated, undecodable, CMYK, vanished, smaller than 8 pixels, label value or colour outside the map: raises /
    skipped;
  * label of another size than its image: raises / skipped; GTAV, known for it: label resized to the image (nearest), listed;
  * image without label, two files of one name: raises when the source is opened / left out and listed;
  * label that is void everywhere: kept (losses and metrics leave void out; the original does the same), `rein data check` lists
    it;
  * name that is not UTF-8: read, shown with \\xNN. Odd pixel formats: see `images.py`.
"""

from __future__ import annotations

import copy
import hashlib
import operator
import re
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.files import Files, shown
from data_pipelines.images import decode_image, orientation
from data_pipelines.labels import VOID, ClassInfo

POLICIES = ("raise", "skip")
EXIF = ("apply", "ignore")


@dataclass(frozen=True)
class Encoded:
    """One element as it lies on disk: encoded bytes and the names of the files for messages; `label` None = no label."""

    name: str
    image: bytes
    label: bytes | None
    image_file: str
    label_file: str


@dataclass(frozen=True)
class Facts:
    """What is known about a source before an element is read.

    `found` says in words which layout and which kind of labels were recognised; `decode` turns label bytes into train ids;
    `mismatch` is "raise", or "resize" for data sets known to hold a few labels of another size than their image.
    """

    name: str
    split: str
    domain: str
    classes: ClassInfo
    found: str
    decode: Any
    has_labels: bool = True
    mismatch: str = "raise"
    options: dict[str, Any] = field(default_factory=dict)


class Source:
    """Random access to decoded elements: `source[i] -> {"image", "label", "name"}` (see ARCHITECTURE.md, data contract).

    `policy="raise"` stops at the first file that does not fit. `policy="skip"` lists it in `problems` and gives the next
    readable element in its place, so that element i stays a function of i alone; `read(i)` never replaces.
    `problems` maps a file's name to one sentence; worker processes keep their own copy.
    """

    def __init__(self, facts: Facts, *, policy: str = "raise", exif: str = "apply"):
        if policy not in POLICIES:
            raise DataError(f"policy={policy!r} is unknown; choose one of {', '.join(POLICIES)}.")
        if exif not in EXIF:
            raise DataError(f"exif={exif!r} is unknown; choose one of {', '.join(EXIF)}.")
        self.facts, self.policy, self.exif = facts, policy, exif
        self.name, self.split, self.domain = facts.name, facts.split, facts.domain
        self.classes, self.found, self.has_labels = facts.classes, facts.found, facts.has_labels
        self.problems: dict[str, str] = {}
        self.unused: list[str] = []  # label files without an image
        self.note: str | None = None  # what `rein data check` warns of
        self._unreadable: set[int] = set()

    def __len__(self) -> int:
        raise TypeError(f"{type(self).__name__} must say how long it is")

    def encoded(self, index: int) -> Encoded:
        """Element `index` as it lies on disk."""
        raise TypeError(f"{type(self).__name__} must say how an element is read")

    def entries(self) -> list[tuple[str, int, int]]:
        """(name, bytes of the image file, bytes of the label file or -1) of every element, for the fingerprint."""
        raise TypeError(f"{type(self).__name__} must list its elements")

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = self._index(index)
        if self.policy == "raise":
            return self.read(index)
        for step in range(len(self)):
            at = (index + step) % len(self)
            if at in self._unreadable:
                continue
            try:
                return self.read(at)
            except DataError as error:
                self._unreadable.add(at)
                self.problems[self.entry_name(at)] = str(error)
        raise DataError(f"No element of {self!r} can be read; run `rein data check {self.name}` for a list of what is wrong.")

    def read(self, index: int) -> dict[str, Any]:
        """Element `index` itself, whatever the policy; raises DataError if it does not fit."""
        encoded = self.encoded(self._index(index))
        image = decode_image(encoded.image, encoded.image_file, exif=self.exif)
        if encoded.label is None:
            label = np.full(image.shape[:2], VOID, np.uint8)
        else:
            label = self.facts.decode(encoded.label, encoded.label_file)
            if label.shape != image.shape[:2]:
                label = self._fit(image, label, encoded)
        return {"image": image, "label": label, "name": encoded.name}

    def _fit(self, image: np.ndarray, label: np.ndarray, encoded: Encoded) -> np.ndarray:
        (height, width), (rows, columns) = image.shape[:2], label.shape
        sizes = f"{encoded.label_file} is {columns}x{rows} but its image is {width}x{height}"
        if self.facts.mismatch == "resize":
            self.problems[encoded.name] = f"{sizes}; the label was resized to the image (nearest neighbour)."
            return cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)
        if self.exif == "apply" and (columns, rows) == (height, width) and orientation(encoded.image) >= 5:
            raise DataError(
                f"{sizes} after its EXIF mark turned it; pass exif='ignore' if the label was drawn on the unturned photo."
            )
        raise DataError(f"{sizes}; make the pair equal in size or remove it.")

    def with_facts(self, facts: Facts) -> Source:
        """A copy that reads with other facts (say, another decoder) and has its own list of problems."""
        other = copy.copy(self)
        other.facts, other.problems, other._unreadable = facts, {}, set()
        return other

    def _index(self, index: int) -> int:
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"element {index} of {len(self)}")
        return index % len(self)

    def entry_name(self, index: int) -> str:
        """Name of element `index`, without reading it."""
        return self.entries()[index][0]

    def fingerprint(self) -> str:
        """Hash of what the source holds and how it is read: names and sizes of files, split, options, labels; not the place."""
        decode = self.facts.decode
        how = (
            self.name,
            self.split,
            sorted(self.facts.options.items()),
            self.policy,
            self.exif,
            repr(decode),
            self.classes.names,
        )
        digest = hashlib.sha256(repr(how).encode())
        for entry in self.entries():
            digest.update(repr(entry).encode())
        return digest.hexdigest()

    def states(self) -> list[tuple[str, ...]]:
        """Of every element what changes when its files are rewritten in place; empty where `entries` says it already."""
        return []

    def version(self) -> str:
        """Hash of `fingerprint` and `states`: decides whether what was computed from the files may be used again.

        A copy of the data elsewhere has the same fingerprint, so that a run can be resumed on it, but another version.
        """
        return hashlib.sha256(repr((self.fingerprint(), self.states())).encode()).hexdigest()

    def __repr__(self) -> str:
        return f"<{self.name} {self.split}: {len(self)} elements, {self.found}>"


@dataclass(frozen=True)
class Pair:
    """An image and its label by their names inside a place; `name` is printable and unique in the source."""

    name: str
    image: str
    label: str | None


class FileSource(Source):
    """Pairs of files in a folder or .zip."""

    def __init__(self, facts: Facts, files: Files, pairs: list[Pair], **policy: str):
        super().__init__(facts, **policy)
        self.files, self.pairs = files, pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def encoded(self, index: int) -> Encoded:
        pair = self.pairs[index]
        label = None if pair.label is None else self.files.read(pair.label)
        label_file = "" if pair.label is None else shown(self.files.path(pair.label))
        return Encoded(pair.name, self.files.read(pair.image), label, shown(self.files.path(pair.image)), label_file)

    def entry_name(self, index: int) -> str:
        return self.pairs[index].name

    def entries(self) -> list[tuple[str, int, int]]:
        size = self.files.size
        return [(p.name, size(p.image), -1 if p.label is None else size(p.label)) for p in self.pairs]

    def states(self) -> list[tuple[str, ...]]:
        state = self.files.state
        return [tuple(state(name) for name in (p.image, p.label) if name is not None) for p in self.pairs]


def version(source: Any) -> str:
    """`source.version()`, or the fingerprint of a source that is not made of files."""
    return source.version() if hasattr(source, "version") else source.fingerprint()


def subset_step(subset: str | None) -> int:
    """Step of `subset="1/N"`: every N-th element, from the first."""
    if subset is None:
        return 1
    hit = re.fullmatch(r"1/([1-9]\d*)", str(subset))
    if not hit:
        raise DataError(f"subset={subset!r} is not understood; write '1/N', for example '1/16'.")
    return int(hit[1])

"""Classes, colours and the id tables that turn every data set's own label values into train ids (255 = void)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral

import cv2
import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.mapillary_names import V12_NAMES, V20_NAMES

VOID = 255
MAX_CLASSES = 254  # 255 is void and 254 marks values that do not belong
_STRANGER = 254


@dataclass(frozen=True)
class ClassInfo:
    """Class names in train-id order and their RGB colours; `len(classes)` is the number of classes without void.

    Args:
        names: one for each class, in the order of the labels' values.
        palette: (red, green, blue), 0 to 255, for each class.
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]

    def __post_init__(self):
        if len(self.names) != len(self.palette):
            raise ValueError(f"{len(self.names)} class names but {len(self.palette)} colours.")
        for name, colour in zip(self.names, self.palette, strict=True):
            if len(colour) != 3 or not all(isinstance(part, Integral) and 0 <= part < 256 for part in colour):
                raise DataError(f"The colour of class {name!r} is {colour!r}; it must be three whole numbers from 0 to 255.")

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class IdMap:
    """Label values of one encoding -> train ids, values of any integer type. Values that are not listed do not belong to it at all,
    unless `rest` gives the train id of all others.

    `table` is uint8 [256] (255 where nothing is mapped), `known` bool [256]; `strict` is `table` with `rest`, or 254, at unknown
    values.
    """

    name: str
    ids: Mapping[int, int]
    rest: int | None = field(default=None, repr=False)  # `name` says it: fingerprints hold the repr
    table: np.ndarray = field(init=False, repr=False, compare=False)
    known: np.ndarray = field(init=False, repr=False, compare=False)
    strict: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        table, known = np.full(256, VOID, np.uint8), np.zeros(256, bool)
        for value, train_id in self.ids.items():
            if 0 <= value < 256:
                table[value], known[value] = train_id, True
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "known", known)
        object.__setattr__(self, "strict", np.where(known, table, self._other).astype(np.uint8))

    @property
    def _other(self) -> int:
        return _STRANGER if self.rest is None else self.rest

    def __call__(self, raw: np.ndarray, file: str) -> np.ndarray:
        """Integer values -> uint8 train ids of the same shape; a value that does not belong raises DataError naming `file`."""
        if raw.dtype != np.uint8 and (not raw.size or (raw.min() >= 0 and raw.max() <= 255)):
            raw = raw.astype(np.uint8)
        mapped = cv2.LUT(np.ascontiguousarray(raw), self.strict) if raw.dtype == np.uint8 else self._wide(raw)
        if (mapped == _STRANGER).any():
            raise self._stranger(raw, file)
        return mapped

    def _wide(self, raw: np.ndarray) -> np.ndarray:
        values = np.array(sorted(self.ids), np.int64)
        train_ids = np.array([self.ids[value] for value in values.tolist()], np.uint8)
        at = np.searchsorted(values, raw).clip(max=len(values) - 1)
        return np.where(values[at] == raw, train_ids[at], np.uint8(self._other))

    def _stranger(self, raw: np.ndarray, file: str) -> DataError:
        seen, counts = np.unique(raw, return_counts=True)
        odd = [int(v) for v in seen if int(v) not in self.ids]
        pixels = sum(int(n) for v, n in zip(seen, counts, strict=True) if int(v) not in self.ids)
        values = ", ".join(map(str, odd[:5])) + (", ..." if len(odd) > 5 else "")
        cause = "so many values mean smoothing or JPEG: save it again as PNG, resized with nearest neighbour"
        return DataError(
            f"{file} holds label value{'s' * (len(odd) > 1)} {values} outside {self.name} ({ranges(sorted(self.ids))}) in {pixels:,} of "
            f"{raw.size:,} pixels; {cause if len(odd) > 16 else 'check which kind of label files this is'}."
        )


def ranges(values: Iterable[int]) -> str:
    """Sorted integers in short: `0-18, 255`."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _ids(name: str, mapped: Mapping[int, int], void: Iterable[int]) -> IdMap:
    return IdMap(name, {**dict.fromkeys(void, VOID), **mapped})


CITYSCAPES = ClassInfo(
    names=(
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
        "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ),
    palette=(
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30),
        (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70),
        (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ),
)  # fmt: skip
"""The 19 evaluated classes of Cityscapes, which the driving data sets share."""

TRAIN_IDS = _ids("train ids", {i: i for i in range(19)}, [VOID])

_LABEL_TO_TRAIN = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15,
    31: 16, 32: 17, 33: 18,
}  # fmt: skip
# 255 is label id -1 (license plate) stored in 8 bits; GTAV gives license plates 34 (its palette has 35 entries).
CITYSCAPES_IDS = _ids("Cityscapes label ids", _LABEL_TO_TRAIN, [*range(34), VOID])
GTAV_IDS = _ids("GTAV label ids", _LABEL_TO_TRAIN, [*range(35), VOID])
# Synthia has no terrain, truck or train pixels, though it has ids for them: 16 classes occur.
SYNTHIA_IDS = _ids(
    "Synthia ids",
    {3: 0, 4: 1, 2: 2, 21: 3, 5: 4, 7: 5, 15: 6, 9: 7, 6: 8, 16: 9, 1: 10, 10: 11, 17: 12, 8: 13, 18: 14, 19: 15, 20: 16,
     12: 17, 11: 18},
    range(23),
)  # fmt: skip
URBANSYN_IDS = _ids("UrbanSyn train ids with void 19", {i: i for i in range(19)}, [19, VOID])

CAMVID = ClassInfo(
    names=("sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car", "pedestrian", "bicyclist"),
    palette=((128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0), (192, 128, 128),
             (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192)),
)  # fmt: skip
"""The 11 classes of CamVid."""
CAMVID_OWN_IDS = _ids("CamVid's 11 classes", {i: i for i in range(11)}, [11, VOID])
# sky, building, pole, road, sidewalk, vegetation, traffic sign, fence, car, person, rider; datasets/camvid.py says what is mixed.
CAMVID_IDS = _ids("CamVid ids", {0: 10, 1: 2, 2: 5, 3: 0, 4: 1, 5: 8, 6: 7, 7: 4, 8: 13, 9: 11, 10: 12}, [11, VOID])

_MAPILLARY = {
    "Curb": "sidewalk", "Fence": "fence", "Wall": "wall", "Bike Lane": "road", "Crosswalk - Plain": "road",
    "Curb Cut": "sidewalk", "Parking": "road", "Pedestrian Area": "sidewalk", "Road": "road", "Service Lane": "road",
    "Sidewalk": "sidewalk", "Building": "building", "Person": "person", "Bicyclist": "rider", "Motorcyclist": "rider",
    "Other Rider": "rider", "Lane Marking - Crosswalk": "road", "Lane Marking - General": "road", "Sky": "sky",
    "Terrain": "terrain", "Vegetation": "vegetation", "Street Light": "pole", "Pole": "pole",
    "Traffic Sign Frame": "traffic sign", "Utility Pole": "pole", "Traffic Light": "traffic light",
    "Traffic Sign (Back)": "traffic sign", "Traffic Sign (Front)": "traffic sign", "Bicycle": "bicycle", "Bus": "bus",
    "Car": "car", "Motorcycle": "motorcycle", "On Rails": "train", "Truck": "truck",
}  # fmt: skip
# v2.0 splits v1.2's classes more finely; each part keeps what its v1.2 parent had. New classes without a parent are void,
# except those that lie on the road surface (driveways, parking aisles, road shoulders) or are groups of a mapped thing.
_MAPILLARY_V20 = {
    **{name: train for name, train in _MAPILLARY.items() if name in V20_NAMES},
    **{name: "road" for name in V20_NAMES if name.startswith("Lane Marking")},
    **{name: "traffic light" for name in V20_NAMES if name.startswith("Traffic Light")},
    **{name: "traffic sign" for name in V20_NAMES if name.startswith("Traffic Sign")},
    "Driveway": "road", "Parking Aisle": "road", "Road Shoulder": "road", "Person Group": "person", "Pole Group": "pole",
    "Garage": "building",
}  # fmt: skip


def _by_name(title: str, names: tuple[str, ...], mapping: Mapping[str, str]) -> IdMap:
    return IdMap(title, {i: CITYSCAPES.names.index(mapping[n]) if n in mapping else VOID for i, n in enumerate(names)})


MAPILLARY_V12_IDS = _by_name("Mapillary v1.2 ids", V12_NAMES, _MAPILLARY)
MAPILLARY_V20_IDS = _by_name("Mapillary v2.0 ids", V20_NAMES, _MAPILLARY_V20)

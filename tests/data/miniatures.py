"""Tiny copies of every data set in the layout in which it is published, or as the official scripts leave it.

    made = build("gtav", tmp_path)                  # styles: see STYLES
    made.root, made.truth["train"]["00001"]         # folder; train ids [H, W] by the stem that the image file has

Pictures are made-up scenes whose colours follow the labels, so that a model can learn them.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from data_pipelines import labels as tables
from data_pipelines.labels import CITYSCAPES, VOID

WIDTH, HEIGHT = 96, 48


@dataclass
class Miniature:
    """A folder and the true labels by split and image."""

    root: Path
    truth: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def note(self, split: str, key: str, label: np.ndarray) -> None:
        self.truth.setdefault(split, {})[key] = label

    def label_of(self, split: str, name: str) -> np.ndarray:
        """The true train ids of the element that has this name in an opened split."""
        known = self.truth[split if split in self.truth else "all"]
        stem = Path(name.replace("_leftImg8bit", "").replace("_rgb_anon", "")).stem
        return known[stem if stem in known else f"{name.split('/')[1]}/{stem}"]  # ACDC: the condition stands before it

    def write(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def pack(self, *prefixes: str) -> list[Path]:
        """Moves the files below each prefix into one .zip in the root, as the parts of a download are; "" packs everything."""
        made = []
        for prefix in prefixes:
            target = self.root / f"part{len(list(self.root.glob('*.zip')))}.zip"
            with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in sorted(p for p in self.root.rglob("*") if p.is_file() and p.suffix != ".zip"):
                    relative = path.relative_to(self.root).as_posix()
                    if relative.startswith(prefix):
                        archive.write(path, relative)
                        path.unlink()
            made.append(target)
        return made


def scene(seed: int, size: tuple[int, int] = (WIDTH, HEIGHT), classes: int = 19) -> tuple[np.ndarray, np.ndarray]:
    """uint8 RGB image and train ids of (width, height): blocks of random classes, one block void."""
    rng = np.random.default_rng(seed)
    width, height = size
    blocks = rng.integers(0, classes, (4, 8)).astype(np.uint8)
    blocks[rng.integers(4), rng.integers(8)] = VOID
    label = cv2.resize(blocks, size, interpolation=cv2.INTER_NEAREST)
    palette = np.zeros((256, 3), np.int32)
    palette[:19] = CITYSCAPES.palette
    noise = rng.integers(-12, 13, (height, width, 3))
    return np.clip(palette[label] + noise, 0, 255).astype(np.uint8), label


def png(array: np.ndarray) -> bytes:
    """uint8 grey or RGB as PNG."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def jpeg(array: np.ndarray, **options) -> bytes:
    """uint8 RGB as JPEG."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=95, **options)
    return file.getvalue()


def palette_png(indices: np.ndarray, colours=CITYSCAPES.palette) -> bytes:
    """uint8 indices as a palette PNG."""
    picture = Image.fromarray(indices).copy()
    picture.putpalette([channel for colour in colours for channel in colour])
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def wide_png(array: np.ndarray) -> bytes:
    """uint16 grey or RGB as 16-bit PNG."""
    return cv2.imencode(".png", array[..., ::-1] if array.ndim == 3 else array)[1].tobytes()


def back(ids: tables.IdMap, label: np.ndarray, void: int = 0) -> np.ndarray:
    """Train ids -> the smallest value that an encoding maps to each; `void` for 255."""
    inverse = np.full(256, void, np.uint8)
    for value, train_id in sorted(ids.ids.items(), reverse=True):
        if train_id != VOID:
            inverse[train_id] = value
    return inverse[label]


def gtav(made: Miniature, prepared: bool) -> None:
    colours = [(k * 7 % 256, k * 31 % 256, k * 53 % 256) for k in range(35)]
    for number in range(1, 6):
        image, label = scene(number)
        made.note("train", f"{number:05d}", label)
        made.write(f"images/{number:05d}.png", png(image))
        made.write(f"labels/{number:05d}.png", palette_png(back(tables.GTAV_IDS, label, void=34), colours))
        if prepared:
            made.write(f"labels/{number:05d}_labelTrainIds.png", png(label))


def synthia(made: Miniature, prepared: bool) -> None:
    for number in range(4):
        image, label = scene(20 + number)
        made.note("train", f"{number:07d}", label)
        wide = np.zeros((*label.shape, 3), np.uint16)
        wide[..., 0], wide[..., 1] = back(tables.SYNTHIA_IDS, label), 300 + number
        made.write(f"RAND_CITYSCAPES/RGB/{number:07d}.png", png(image))
        made.write(f"RAND_CITYSCAPES/GT/LABELS/{number:07d}.png", wide_png(wide))
        made.write(f"RAND_CITYSCAPES/GT/COLOR/{number:07d}.png", png(image))
        if prepared:
            made.write(f"RAND_CITYSCAPES/GT/LABELS/{number:07d}_labelTrainIds.png", png(label))


def urbansyn(made: Miniature, prepared: bool) -> None:
    for number in range(1, 5):
        image, label = scene(40 + number)
        made.note("train", f"rgb_{number:04d}", label)
        made.write(f"rgb/rgb_{number:04d}.png", png(image))
        made.write(f"ss/{'rgb' if prepared else 'ss'}_{number:04d}.png", png(back(tables.URBANSYN_IDS, label, void=19)))


def cityscapes(made: Miniature, prepared: bool) -> None:
    for split, cities in (("train", ("aachen", "bochum")), ("val", ("frankfurt",)), ("test", ("berlin",))):
        for city in cities:
            for number in range(4):
                stem = f"{split}/{city}/{city}_{number:06d}_000019"
                image, label = scene(60 + number + 10 * len(city))
                blank = split == "test"
                ids = np.zeros_like(label) if blank else back(tables.CITYSCAPES_IDS, label, void=4)
                made.note(split, Path(stem).name, np.full_like(label, VOID) if blank else label)
                made.write(f"leftImg8bit/{stem}_leftImg8bit.png", png(image))
                made.write(f"gtFine/{stem}_gtFine_labelIds.png", png(ids))
                made.write(f"gtFine/{stem}_gtFine_instanceIds.png", wide_png(ids.astype(np.uint16) * 1000))
                made.write(f"gtFine/{stem}_gtFine_color.png", png(image))
                made.write(f"gtFine/{stem}_gtFine_polygons.json", b"{}")
                if prepared and not blank:
                    made.write(f"gtFine/{stem}_gtFine_labelTrainIds.png", png(label))


def bdd100k(made: Miniature, prepared: bool) -> None:
    for split in ("train", "val", "test"):
        for number in range(4):
            image, label = scene(100 + number)
            stem = f"{number:08x}-{split}0000"
            made.write(f"bdd100k/images/10k/{split}/{stem}.jpg", jpeg(image))
            made.note(split, stem, np.full_like(label, VOID) if split == "test" else label)
            if split != "test":
                made.write(f"bdd100k/labels/sem_seg/masks/{split}/{stem}.png", png(label))
                made.write(f"bdd100k/labels/sem_seg/colormaps/{split}/{stem}.png", png(image))


def mapillary(made: Miniature, prepared: bool) -> None:
    names = {"train": "training", "val": "validation", "test": "testing"}
    for split, folder in names.items():
        for number in range(4):
            image, label = scene(140 + number, (WIDTH + 8 * number, HEIGHT))
            stem = f"{split}_{number:020d}"
            made.write(f"{folder}/images/{stem}.jpg", jpeg(image))
            made.note(split, stem, np.full_like(label, VOID) if split == "test" else label)
            if split == "test":
                continue
            if prepared:
                made.write(f"cityscapes_trainIdLabel/{split}/label/{stem}.png", png(label))
                continue
            colours = [(k, k, k) for k in range(124)]
            made.write(f"{folder}/v1.2/labels/{stem}.png", palette_png(back(tables.MAPILLARY_V12_IDS, label, 65), colours))
            made.write(f"{folder}/v2.0/labels/{stem}.png", palette_png(back(tables.MAPILLARY_V20_IDS, label, 123), colours))
    made.write("config_v1.2.json", json.dumps({"labels": [{"readable": name} for name in tables.V12_NAMES]}).encode())


def mapillary_half(made: Miniature, prepared: bool) -> None:
    for number in range(4):
        image, label = scene(160 + number, (WIDTH // 2, HEIGHT // 2))
        made.note("val", f"{number:022d}", label)
        made.write(f"half/val_img/{number:022d}.jpg", jpeg(image))
        made.write(f"half/val_label/{number:022d}.png", png(label))


def acdc(made: Miniature, prepared: bool) -> None:
    for weather in ("fog", "night", "rain", "snow"):
        for split in ("train", "val", "test"):
            for number in range(2):
                image, label = scene(180 + number + len(weather))
                drive = f"GOPR0{'fnrs'.index(weather[0])}{len(split)}0"  # a drive belongs to one condition
                stem = f"{weather}/{split}/{drive}/{drive}_frame_{number:06d}"
                made.note(split, f"{weather}/{Path(stem).name}", np.full_like(label, VOID) if split == "test" else label)
                made.write(f"rgb_anon/{stem}_rgb_anon.png", png(image))
                made.write(f"rgb_anon/{stem.replace(f'/{split}/', f'/{split}_ref/')}_rgb_ref_anon.png", png(image))
                if split == "test":
                    continue
                ids = back(tables.CITYSCAPES_IDS, label)
                made.write(f"gt/{stem}_gt_labelIds.png", png(ids))
                made.write(f"gt/{stem}_gt_labelColor.png", png(image))
                if prepared:
                    made.write(f"gt/{stem}_gt_labelTrainIds.png", png(label))


def camvid(made: Miniature, prepared: bool) -> None:
    own = np.unique([train for train in tables.CAMVID_IDS.ids.values() if train != VOID]).astype(np.uint8)
    parts = {"train": ("0001TP", "0006R0", "0016E5"), "val": ("0016E5v",), "test": ("0001TP", "Seq05VD")}
    for split, sequences in parts.items():
        for sequence in sequences:
            for number in range(2):
                _, label = scene(220 + number + len(split), classes=len(own))
                label = np.where(label == VOID, VOID, own[np.minimum(label, len(own) - 1)]).astype(np.uint8)
                image = np.asarray(CITYSCAPES.palette + ((0, 0, 0),) * 237, np.uint8)[label]
                stem = f"{sequence[:7] if sequence.startswith('Seq') else sequence[:6]}_{split}{number:05d}"
                made.note(split, stem, label)
                made.write(f"{split}/{stem}.png", png(image))
                made.write(f"{split}annot/{stem}.png", png(back(tables.CAMVID_IDS, label, void=11)))


FOLDER_COLOURS = ((10, 20, 30), (200, 40, 40), (40, 200, 40))


def _folder(masks: Callable[[np.ndarray], bytes], lines: list[str] | None, classes: int = 3) -> Callable:
    def write(made: Miniature, prepared: bool) -> None:
        for number in range(10):
            image, label = scene(260 + number, classes=classes)
            label = np.where(label == VOID, 0, label).astype(np.uint8)
            made.note("all", f"photo_{number}", label)
            made.write(f"images/photo_{number}.jpg", jpeg(image))
            made.write(f"masks/photo_{number}.png", masks(label))
        if lines:
            made.write("names.txt", "\n".join(lines).encode())

    return write


_COLOUR_LINES = [f"thing{k} {r} {g} {b}" for k, (r, g, b) in enumerate(FOLDER_COLOURS)]
folder_values = _folder(png, ["ground", "tree", "house"])
folder_colours = _folder(lambda label: png(np.asarray(FOLDER_COLOURS, np.uint8)[label]), _COLOUR_LINES)
folder_binary = _folder(lambda label: png(np.asarray((0, 255), np.uint8)[label]), ["background", "crack"], classes=2)
folder_unlisted = _folder(png, None)

_MAKERS = {
    "gtav": gtav, "synthia": synthia, "urbansyn": urbansyn, "cityscapes": cityscapes, "bdd100k": bdd100k, "mapillary": mapillary,
    "acdc": acdc, "camvid": camvid, "folder": folder_values, "mapillary:half": mapillary_half, "folder:colours": folder_colours,
    "folder:binary": folder_binary, "folder:unlisted": folder_unlisted,
}  # fmt: skip
_PREPARED = ("gtav", "synthia", "urbansyn", "cityscapes", "mapillary", "acdc")
# Every data set with the ways in which it can lie on disk.
STYLES = [*_MAKERS, *(f"{name}:prepared" for name in _PREPARED)]


def build(style: str, root: Path) -> Miniature:
    """Writes the miniature of a data set ("gtav") or of another style of it ("gtav:prepared", see STYLES) below `root`."""
    name, _, kind = style.partition(":")
    made = Miniature(Path(root))
    _MAKERS[name if kind in ("", "prepared") else style](made, kind == "prepared")
    return made

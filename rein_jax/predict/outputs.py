"""Maps -> files: label PNG, colour overlay, grey maps, probabilities; each whole or not at all, and only below one folder."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from data_pipelines import classlist
from data_pipelines.atomic import write_atomically
from data_pipelines.errors import DataError
from data_pipelines.files import read_file
from data_pipelines.files import shown as printable
from data_pipelines.labels import CITYSCAPES, VOID, ClassInfo
from data_pipelines.paths import local_path
from rein_jax.errors import UserError
from rein_jax.predict.maps import KINDS, Maps
from rein_jax.predict.submission import label_ids

SAVES = ("labels", "overlay", *KINDS)


@dataclass(frozen=True)
class Style:
    """How predictions are shown. ids: what a label PNG holds per class, uint8 [K]; opacity: of the colours in an overlay."""

    classes: ClassInfo
    ids: np.ndarray
    opacity: float = 0.6

    def colours(self) -> np.ndarray:
        """uint8 [256, 3] RGB, black where there is no class."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self.classes)] = self.classes.palette
        return table


def style(classes: ClassInfo, *, ids: str = "train", palette: str | Path | None = None, opacity: float = 0.6) -> Style:
    """The style of a model's classes.

    ids: "train" (0..K-1), "labels" (Cityscapes label ids; the model must have its 19 classes) or K numbers joined by commas.
    palette: file of a class list with colours, one `name red green blue` (or `name #rrggbb`) a line, K lines.
    """
    if not 0 <= opacity <= 1:
        raise UserError(f"The opacity must be between 0 and 1, not {opacity:g}.")
    return Style(_recoloured(classes, palette) if palette else classes, _ids(classes, ids), float(opacity))


def _ids(classes: ClassInfo, ids: str) -> np.ndarray:
    if ids == "train":
        return np.arange(len(classes), dtype=np.uint8)
    if ids == "labels":
        if tuple(classes.names) != CITYSCAPES.names:
            raise UserError(f"Label ids are defined for the 19 Cityscapes classes; this model has {len(classes)} others. Use train ids.")
        return label_ids()
    parts = ids.split(",")
    if not all(part.strip().isdigit() and int(part) <= VOID for part in parts):
        raise UserError(f"ids={ids!r} is not train, labels, or numbers of 0 to 255 joined by commas.")
    if len(parts) != len(classes):
        raise UserError(f"ids gives {len(parts)} numbers; the model has {len(classes)} classes.")
    return np.array([int(part) for part in parts], np.uint8)


def _recoloured(classes: ClassInfo, palette: str | Path) -> ClassInfo:
    found = classlist.read(read_file(local_path(palette)), str(palette))
    if found.colours is None or len(found.names) != len(classes):
        raise DataError(f"{palette} lists {len(found.names)} classes{'' if found.colours else ' without colours'}; the model has "
                        f"{len(classes)}: {', '.join(classes.names[:3])}, ... Give each a line `name red green blue`.")
    return ClassInfo(found.names, found.colours)


def check_saves(saves: Sequence[str], known: Sequence[str] = SAVES) -> None:
    """Refuse kinds of results that are not known, and none at all."""
    unknown = [kind for kind in saves if kind not in known]
    if unknown or not saves:
        raise UserError(f"Cannot save {unknown[0] if unknown else 'nothing'}; choose among {', '.join(known)}.")


def overlay(image: np.ndarray, labels: np.ndarray, shown: Style) -> np.ndarray:
    """uint8 [H, W, 3] RGB: the class colours over the image."""
    return cv2.addWeighted(shown.colours()[labels], shown.opacity, image, 1 - shown.opacity, 0)


def png(array: np.ndarray) -> bytes:
    """uint8 [H, W] or RGB [H, W, 3] -> PNG."""
    done, data = cv2.imencode(".png", array if array.ndim == 2 else array[..., ::-1])
    if not done:
        raise UserError(f"A picture of shape {array.shape} cannot be encoded as PNG.")
    return data.tobytes()


def label_png(labels: np.ndarray, shown: Style) -> bytes:
    """8-bit single-channel PNG of the style's ids."""
    return png(shown.ids[labels])


def write(out: Path, name: str, image: np.ndarray, maps: Maps, saves: Sequence[str], shown: Style) -> list[Path]:
    """OUT/labels/NAME.png, OUT/overlay/NAME.png, ... for one image; returns the files. OSError as a UserError naming the file."""
    made = {"labels": lambda: label_png(maps.labels, shown), "overlay": lambda: png(overlay(image, maps.labels, shown)),
            "confidence": lambda: png(maps.confidence), "entropy": lambda: png(maps.entropy),
            "probabilities": lambda: _npz(maps.probabilities, shown.classes)}
    files = []
    for kind in saves:
        path = out / kind / f"{name}.{'npz' if kind == 'probabilities' else 'png'}"
        try:
            write_atomically(path, made[kind](), sync=False)
        except OSError as error:
            raise UserError(f"{printable(str(path))} cannot be written ({error.strerror}); check the space on the disk and the rights of "
                            "its folder.") from None
        files.append(path)
    return files


def _npz(probabilities: np.ndarray, classes: ClassInfo) -> bytes:
    """`probabilities` float16 [H, W, K] and `classes`, compressed."""
    file = io.BytesIO()
    np.savez_compressed(file, probabilities=probabilities, classes=np.array(classes.names))
    return file.getvalue()
